#!/bin/sh
# The whole way of the data through the command line tool, on a small problem made here: prepare, baselines, saved
# predictions, plan, train, resume, eval, predict. What is checked is that the parts fit together and that numbers
# that must agree do.
#
#   demo.sh HEADROOM
headroom=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2

die() {
    echo "FAIL: $1"
    tail -5 err 2>/dev/null
    exit 1
}

# run STATUS ARGUMENTS: stdout to `out`, stderr to `err`
run() {
    expected=$1
    shift
    "$headroom" "$@" > out 2> err < /dev/null
    got=$?
    [ "$got" -eq "$expected" ] || die "headroom $*: exit status $got, expected $expected"
}

has() {
    grep -qF -e "$2" "$1" || { sed 's/^/  /' "$1" | head -20; die "$1 lacks '$2'"; }
}

# ---- 40 labels; a text of label t holds words of t, and t's partner label t + 20 mod 40
mkdir raw
awk 'BEGIN {
    for (split_ = 0; split_ < 2; split_++) {
        name = split_ ? "tst" : "trn"
        rows = split_ ? 100 : 400
        print rows, 40 > ("raw/" name "_X_Y.txt")
        for (i = 0; i < rows; i++) {
            t = (i * 7 + split_ * 3) % 40
            line = "topic" t "\t"
            for (w = 0; w < 8; w++)
                line = line " word" t "x" ((i + w * w) % 11) " common" ((i * 3 + w) % 17)
            print line > ("raw/" name "_X.txt")
            p = (t + 20) % 40
            print (t < p ? t : p) ":1 " (t < p ? p : t) ":1" > ("raw/" name "_X_Y.txt")
        }
    }
    for (l = 0; l < 40; l++)
        print "name of " l > "raw/Y.txt"
}'

run 0 prepare raw data --name demo --min-df 1
has out 'labels          40'
run 0 info data --json
has out '"name": "demo"'
has out '"label_names": true'
run 66 baseline knn nowhere

# ---- baselines, and the same numbers from saved predictions
run 0 baseline popularity data
has out 'PSnDCG'
run 0 baseline knn data --top 10 --json --save knn.txt
cp out knn.json
has out '"k": [1,3,5,10]'
run 0 baseline knn data --top 10 --json --threads 1
cmp -s out knn.json || die 'knn depends on the number of threads'
run 0 eval --predictions knn.txt data --top 10 --json
cmp -s out knn.json || die 'saved predictions give other numbers'
[ "$(wc -l < knn.txt)" -eq 100 ] || die 'saved predictions have not one line a row'
head -99 knn.txt > short.txt
run 65 eval --predictions short.txt data
has err 'has 100 rows'
run 64 eval --predictions knn.txt data --split dev
run 73 baseline popularity data --save nowhere/x
run 0 baseline knn data --max-label-share 0.04
has out 'labels that count 0'

# ---- plan and train
small='encoder.dim=32 train.epochs=6 train.batch=32 threads=2'
run 0 plan dataset=data $small
has out 'whole process'
run 0 plan dataset=data $small --json
has out '"fits": true'
run 66 plan dataset=nowhere
run 0 train dataset=data run=first $small --json
has out '"finished": true'
has err 'planned'
run 0 info first/model
has out 'labels          40'
run 0 eval first/model data --json --save model.txt
cp out model.json
run 0 eval --predictions model.txt data --json
cmp -s out model.json || die 'saved predictions of the model give other numbers'

# ---- the same run with another number of threads gives the same predictions
run 0 train dataset=data run=second $small threads=1
run 0 eval second/model data --json
cmp -s out model.json || die 'training depends on the number of threads'

# ---- predict
printf 'topic5\tword5x1 word5x2\n\ntopic9\tword9x3' > texts.txt
"$headroom" predict first/model --top 3 < texts.txt > out 2> err || die 'predict'
[ "$(wc -l < out)" -eq 9 ] || die 'predict: three rows of three labels expected'
has out 'name of 5'
"$headroom" predict first/model --top 3 texts.txt > from_file 2> err || die 'predict FILE'
cmp -s out from_file || die 'predict FILE differs from standard input'
"$headroom" predict first/model --top 3 --format json < texts.txt > out 2> err || die 'predict --format json'
[ "$(wc -l < out)" -eq 3 ] || die 'predict: one JSON line a row expected'
has out '{"row":2,"labels":[{"id":'
run 66 predict first/model nowhere.txt

# a line is answered before the next one is written
mkfifo questions answers
"$headroom" predict first/model --top 1 < questions > answers 2> err &
exec 3> questions 4< answers
for row in 0 1 2; do
    echo "topic$row" >&3
    read -r answer <&4
    [ "${answer%%	*}" = "$row" ] || die "predict: expected the answer for row $row, found '$answer'"
done
exec 3>&- 4<&-
wait

echo 'the demo ran'

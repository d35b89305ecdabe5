#!/bin/sh
# The command line tool as a user meets it: exit status, what goes to stdout, what goes to stderr.
#
#   run.sh HEADROOM
#
# Cases that need a data set or a model are in tests/cli/demo.sh; these need nothing but the tool.
headroom=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
count=0
bad=0

fail() {
    bad=$((bad + 1))
    echo "FAIL: headroom $shown"
    echo "  $1"
    sed 's/^/  stdout: /' out | head -5
    sed 's/^/  stderr: /' err | head -5
}

# expect STATUS STDOUT STDERR [arguments]: the two are fixed strings that must occur; "" means that stream stays empty,
# "*" that it does not matter
expect() {
    status=$1 stdout=$2 stderr=$3
    shift 3
    shown=$*
    count=$((count + 1))
    "$headroom" "$@" > out 2> err < "${input:-/dev/null}"
    got=$?
    [ "$got" -eq "$status" ] || { fail "exit status $got, expected $status"; return; }
    check_stream out "$stdout" && check_stream err "$stderr"
}

check_stream() {
    case $2 in
    '*') return 0 ;;
    '') [ ! -s "$1" ] || { fail "$1 is not empty"; return 1; } ;;
    *) grep -qF -e "$2" "$1" || { fail "$1 lacks '$2'"; return 1; } ;;
    esac
}

# ---- overview, help, version
expect 64 '' 'Commands:'
expect 0 'Commands:' '' help
expect 0 'Commands:' '' --help
expect 0 'headroom 0.' '' --version
expect 0 'headroom train [--config FILE]' '' help train
for command in prepare train eval predict baseline plan info config; do
    expect 0 "headroom $command" '' "$command" --help
    expect 0 '--threads N' '' "$command" -h
    expect 64 '' "headroom: $command: unknown option '--no-such-option'" "$command" --no-such-option
    expect 64 '' "did you mean '--threads'?" "$command" --thread 2
done

# ---- commands and options that do not exist
expect 64 '' "headroom: unknown command 'trian'; did you mean 'train'?" trian
expect 64 '' "did you mean 'predict'?" pred
expect 64 '' "'headroom help' lists" xyzzy
expect 64 '' "unknown command 'xyzzy'" help xyzzy
expect 64 '' 'options come after the command' --json info
expect 64 '' 'written with two dashes' info -json
expect 64 '' '--json takes no value' info --json=yes
expect 64 '' '--config needs a value: --config FILE' config --config
expect 64 '' "expected a whole number" info --threads 2x
expect 64 '' "expected a whole number" info --threads=
expect 64 '' "it must be at most 1024" info --threads 1025
expect 64 '' "it must be at least 0" info --threads -1
expect 64 '' "expected 0 to 1024, and auto, ref" info --isa mmx

# ---- eval, baseline, predict: arguments
expect 64 '' 'expected MODEL and DATASET, found 0 words' eval
expect 64 '' 'expected MODEL and DATASET, found 1 words' eval model
expect 64 '' 'expected DATASET beside --predictions' eval --predictions p a b
expect 64 '' "--split is 'tset', expected train, dev or test" eval a b --split tset
expect 64 '' '--top is 101, it must be at most 100' eval a b --top 101
expect 64 '' "--max-label-share is 'nan', expected a number" eval a b --max-label-share nan
expect 64 '' '--max-label-share is 1.5' eval a b --max-label-share 1.5
expect 64 '' "found 'nearest', expected popularity or knn" baseline nearest data
expect 64 '' 'expected popularity or knn, and DATASET' baseline knn
expect 64 '' 'expected MODEL' predict
expect 64 '' "--format is 'xml', expected tsv or json" predict model --format xml
expect 64 '' 'expected INPUT and OUTPUT, found 1 words' prepare raw
expect 64 '' 'expected one folder or none' info a b
expect 64 '' 'expected MODEL and OUTPUT, found 1 words' prune model
expect 64 '' '--density' prune model small --density 2

# ---- what is missing is said with what to type
expect 64 '' 'type: headroom train dataset=FOLDER run=runs/first' train
expect 64 '' 'type: headroom plan dataset=FOLDER,' plan
expect 64 '' 'add one: headroom train dataset=data run=runs/first' train dataset=data
expect 64 '' 'keys are written key=value' train --dataset data

# ---- what is not there
expect 66 '' 'missing' baseline popularity missing
expect 66 '' 'missing' eval --predictions missing missing
expect 66 '' 'missing' predict missing
expect 66 '' 'missing' prepare missing out
expect 66 '' 'missing: there is no such folder' info missing
expect 66 '' 'missing' prune missing small

# ---- configuration
expect 0 'dtype: "e4m3"' '' config
expect 0 'dtype: "bf16"  # command line' '' config head.dtype=bf16
expect 0 'head.dtype' '' config --origins
expect 0 'storage type of the label weights' '' config --explain head.dtype
expect 78 '' "--explain: unknown key 'dtype'; did you mean 'head.dtype' or 'layer.dtype' or 'aux.dtype'?" config --explain dtype
expect 78 '' "command line: unknown key 'head.dtpye'; did you mean 'head.dtype'?" config head.dtpye=e4m3
expect 78 '' "seed is '5x', expected a whole number" config seed=5x
expect 78 '' "found 'seed', expected key=value" config seed
expect 78 '' "expected key=value" train data
expect 66 '' 'none.yaml' config --config none.yaml
printf 'head: {dtype: bf16}\nthreads: 1\n' > a.yaml
printf 'base: a.yaml\nhead.lr: 0.25\n' > b.yaml
printf 'seed: 1\nseed: 2\n' > twice.yaml
expect 0 'lr: 0.25  # b.yaml:2' '' config --config b.yaml
expect 0 'dtype: "bf16"  # a.yaml:1' '' config --config b.yaml
expect 0 'dtype: "e5m2"  # command line' '' config --config b.yaml head.dtype=e5m2
expect 0 'threads: 2  # command line' '' config --config=b.yaml --threads 2
expect 78 '' 'twice.yaml: line 2, column 1: seed was already given on line 1' config --config twice.yaml
expect 0 '"origin": "b.yaml:2"' '' config --config b.yaml --json
# what it prints reads back to the same
"$headroom" config --config b.yaml > c.yaml && "$headroom" config --config c.yaml --json | grep '"value"' > c.json
"$headroom" config --config b.yaml --json | grep '"value"' > b.json
shown='config round trip'
cmp -s b.json c.json || { : > out; : > err; fail 'a written configuration reads back differently'; }

# every recipe is a configuration
for recipe in "$root"/configs/*.yaml "$root"/configs/published/*/*.yaml; do
    expect 0 'head:' '' config --config "$recipe"
done

# ---- info
expect 0 'isa' '' info
expect 0 '"isa": "ref"' '' info --json --isa ref
expect 0 '"threads": 2,' '' info --json --threads 2

# ---- streams that are closed or full
count=$((count + 3))
shown='config > /dev/full'
if [ -w /dev/full ]; then
    "$headroom" config --origins > /dev/full 2> err
    [ $? -eq 74 ] || { : > out; fail 'a full stdout is not exit status 74'; }
    "$headroom" info > /dev/full 2> err
    [ $? -eq 74 ] || { : > out; fail 'a full stdout is not exit status 74'; }
fi
shown='config | head -1'
count=$((count + 1))
"$headroom" config 2> err | head -1 > out
[ ! -s err ] || fail 'a reader that has enough is an error'
shown='info with stdout closed'
"$headroom" info >&- 2> err
[ $? -eq 74 ] || { : > out; fail 'a closed stdout is not exit status 74'; }
: > out
check_stream err 'writing to standard output failed'

# ---- JSON is JSON
if command -v python3 > /dev/null 2>&1; then
    for words in 'info --json' 'config --json'; do
        shown=$words
        "$headroom" $words 2> err | tee out | python3 -c 'import json, sys; json.load(sys.stdin)' || fail 'not JSON'
    done
fi

echo "$count cases, $bad failed"
[ $bad -eq 0 ]

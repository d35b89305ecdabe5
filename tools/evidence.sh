#!/bin/sh
# The evidence table: does the storage type or the rounding cost accuracy? Demo data, width and epochs fixed, three seeds,
# paired differences to f32 with 95 % intervals (t, 2 degrees of freedom). Resumable: a finished run is not repeated.
# Usage: evidence.sh BUILD_FOLDER DEMO_FOLDER   (make demo first). Prints Markdown.
set -eu
H=$1/headroom
data=$2/data
out=$2/evidence
seeds=${SEEDS:-"1 2 3"}
dim=${DIM:-128}
epochs=${EPOCHS:-4}
lr=${LR:-8}
threads=${THREADS:-0}
mkdir -p "$out"
variants="f32:stochastic bf16:stochastic e4m3:stochastic e4m3:nearest e4m3:stochastic-elmo"

for seed in $seeds; do
    for v in $variants; do
        dtype=${v%%:*} rounding=${v##*:}
        file=$out/$dtype-$rounding-$seed.txt
        [ -s "$file" ] && continue
        run=$out/run
        rm -rf "$run"
        "$H" train --quiet threads="$threads" dataset="$data" run="$run" seed="$seed" head.dtype="$dtype" head.rounding="$rounding" \
            encoder.dim="$dim" train.epochs="$epochs" head.lr="$lr" encoder.lr=0.002 train.validation=0 >&2
        "$H" eval "$run/model" "$data" --quiet --max-label-share 0.01 >"$file.tmp"
        mv "$file.tmp" "$file"
        echo "evidence: $dtype $rounding seed $seed done" >&2
    done
done
rm -rf "$out/run"

echo "| head | P@1 | P@3 | P@5 | PSP@5 | P@1 − f32 | P@5 − f32 | PSP@5 − f32 |"
echo "|---|---|---|---|---|---|---|---|"
for v in $variants; do
    dtype=${v%%:*} rounding=${v##*:}
    for seed in $seeds; do
        awk -v s="$seed" '$1 == "P" {p1 = $2; p3 = $3; p5 = $4} $1 == "PSP" {q = $4} END {print s, p1, p3, p5, q}' \
            "$out/f32-stochastic-$seed.txt" | tr '\n' ' '
        awk '$1 == "P" {p1 = $2; p3 = $3; p5 = $4} $1 == "PSP" {q = $4} END {print p1, p3, p5, q}' "$out/$dtype-$rounding-$seed.txt"
    done | awk -v name="$dtype $rounding" '
        {n++; for (i = 1; i <= 4; i++) {m[i] += $(5 + i); d = $(5 + i) - $(1 + i); s[i] += d; q[i] += d * d}}
        function interval(i,   mean, sd) {
            mean = s[i] / n; sd = sqrt((q[i] - n * mean * mean > 0 ? q[i] - n * mean * mean : 0) / (n > 1 ? n - 1 : 1))
            return sprintf("%+.2f ± %.2f", mean, 4.303 * sd / sqrt(n))
        }
        END {printf "| %s | %.2f | %.2f | %.2f | %.2f | %s | %s | %s |\n", name, m[1]/n, m[2]/n, m[3]/n, m[4]/n,
             interval(1), interval(3), interval(4)}'
done

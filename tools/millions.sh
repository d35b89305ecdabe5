#!/bin/sh
# Millions of labels x 768 in e4m3 on synthetic vectors, batch 128: what `plan` says and what the process takes.
# Usage: millions.sh BUILD_FOLDER WORK_FOLDER [LABELS [STEPS [key=value ...]]]
set -eu
build=$1
H=$build/headroom
work=$2/dense
labels=${3:-3000000}
steps=${4:-20}
[ $# -gt 4 ] && shift 4 || shift $#
mkdir -p "$work"
[ -d "$work/data-$labels" ] || {
    "$build/make_dense" "$work/raw-$labels" 8192 768 "$labels"
    "$H" prepare --quiet "$work/raw-$labels" "$work/data-$labels"
}
rm -rf "$work/run"
begin=$(date +%s)
"$H" train --force dataset="$work/data-$labels" run="$work/run" encoder.type=dense encoder.dim=768 head.dtype=e4m3 head.lr=0.1 \
    train.batch=128 train.max_steps="$steps" train.validation=0 encoder.dropout=0 log.every=5 "$@" 2>"$work/err" >/dev/null ||
    { tail -n 3 "$work/err" >&2; exit 1; }
grep -E '^ *(memory|head|batch|mapped|process|whole|total)' "$work/err"
echo "$steps steps in $(($(date +%s) - begin)) s, opening, checkpoint and model included"
grep '"event":"step"' "$work/run/log.jsonl" | tail -n 1
for i in 1 2 3 4 5; do # process start included
    t=$(date +%s%N); "$H" info "$work/run/model" >/dev/null; echo "$((($(date +%s%N) - t) / 100000))"
done | sort -n | awk 'NR == 3 {printf "headroom info on the model, median of 5: %.1f ms\n", $1 / 10}'
rm -rf "$work/run"

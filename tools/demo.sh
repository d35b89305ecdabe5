#!/bin/sh
# The main job on real input, end to end: this machine's Debian package index becomes a classifier that reads the
# description of a package and says what it depends on. Usage: demo.sh BUILD_FOLDER WORK_FOLDER
set -eu
build=$1
work=$2
here=$(cd "$(dirname "$0")/.." && pwd)
H=$build/headroom
share=0.01   # the headline leaves out labels on more than 1 % of the training rows: libc6 and its like
mkdir -p "$work"
say() { printf '\n== %s\n' "$*"; }

if [ ! -f "$work/lf/summary.txt" ]; then
    say "reading the package index"
    if ! apt-get indextargets --format '$(FILENAME)' 'Created-By: Packages' | while read -r f; do ls "$f"*; done >/dev/null 2>&1 ||
        [ -z "$(apt-get indextargets --format '$(FILENAME)' 'Created-By: Packages')" ]; then
        echo "no package index yet: apt-get update"
        if [ "$(id -u)" -eq 0 ]; then apt-get -q update; else sudo apt-get -q update; fi
    fi
    "$build/debian_packages" "$work/lf" >"$work/summary.tmp"
    mv "$work/summary.tmp" "$work/lf/summary.txt"
fi
cat "$work/lf/summary.txt"

if [ ! -d "$work/data" ]; then
    say "headroom prepare"
    "$H" prepare "$work/lf" "$work/data" --name debian-packages
fi

say "baselines"
for kind in popularity knn; do
    "$H" baseline $kind "$work/data" --quiet --max-label-share $share >"$work/$kind.headline"
    "$H" baseline $kind "$work/data" --quiet >"$work/$kind.all"
done
echo "popularity and knn done"

say "headroom train"
begin=$(date +%s)
"$H" train --config "$here/configs/debian-packages.yaml" dataset="$work/data" run="$work/run" 2>"$work/train.err" >"$work/train.out" &
pid=$!
trap 'kill $pid 2>/dev/null' INT TERM
tail -f --pid=$pid "$work/train.err" 2>/dev/null | grep --line-buffered -E 'validation|resuming|headroom:' || true
wait $pid || { status=$?; tail -n 5 "$work/train.err" >&2; exit $status; }
seconds=$(($(date +%s) - begin))
sed -n '/^ *memory/,$p' "$work/train.err"

"$H" eval "$work/run/model" "$work/data" --quiet --max-label-share $share >"$work/model.headline"
"$H" eval "$work/run/model" "$work/data" --quiet >"$work/model.all"

row() { # name, file
    awk -v name="$1" '$1 == "P" {p = sprintf("%6s %6s %6s", $2, $3, $4)} $1 == "PSP" {s = sprintf("%6s %6s %6s", $2, $3, $4)}
         END {printf "%-12s %s   %s", name, p, s}' "$2"
}
say "results ($(sed -n 's/^sha256 //p' "$work/lf/summary.txt" | cut -c1-16), percent)"
printf '%-12s %-20s   %-20s   %-20s   %-20s\n' "" "headline P@1 @3 @5" "PSP@1 @3 @5" "all labels P@1 @3 @5" "PSP@1 @3 @5"
for m in popularity knn model; do
    row $m "$work/$m.headline"
    printf '   '
    row "" "$work/$m.all" | cut -c14-
done
echo "training took $seconds s (less when resumed); memory planned and measured stands above"

say "three questions"
for text in "a mail server with spam filtering" "Python library to read and write spreadsheets" \
    "desktop application to edit photographs, for GNOME"; do
    echo "$text"
    printf '%s\n' "$text" | "$H" predict "$work/run/model" --top 5 | awk -F '\t' '{printf "    %.2f  %s\n", $3, $5}'
done

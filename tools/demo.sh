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
    index() { "$build/debian_packages" "$work/lf" >"$work/summary.tmp"; }
    status=0
    index || status=$?
    if [ $status -eq 66 ]; then # no index on this machine yet
        sudo=
        [ "$(id -u)" -eq 0 ] || sudo=sudo
        echo "+ $sudo apt-get update"
        $sudo apt-get -q update
        index
    elif [ $status -ne 0 ]; then
        exit $status
    fi
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
echo "popularity and knn: done, in the table below"

say "headroom train (Ctrl-C stops it, make demo goes on)"
config=$here/configs/debian-packages.yaml
"$H" config --config "$config" >"$work/config.tmp"
cmp -s "$work/config.tmp" "$work/config.yaml" || rm -rf "$work/run" # that was another recipe
mv "$work/config.tmp" "$work/config.yaml"
begin=$(date +%s)
"$H" train --config "$config" dataset="$work/data" run="$work/run" 2>"$work/train.err" >"$work/train.out" &
pid=$!
trap 'kill $pid 2>/dev/null' INT TERM
tail -n +1 -f --pid=$pid "$work/train.err" 2>/dev/null | grep --line-buffered -E 'validation|resuming|headroom:' || true
wait $pid || {
    status=$?
    [ $status -eq 75 ] && echo "stopped; 'make demo' goes on from here" >&2 || echo "to begin anew: rm -rf $work" >&2
    exit $status
}
seconds=$(($(date +%s) - begin))
awk '/^ *memory .*peak/ {on = 1} on' "$work/train.err"

"$H" eval "$work/run/model" "$work/data" --quiet --max-label-share $share >"$work/model.headline"
"$H" eval "$work/run/model" "$work/data" --quiet >"$work/model.all"

say "results (percent; data $(sed -n 's/^sha256 //p' "$work/lf/summary.txt" | cut -c1-16))"
line() { # name, file
    awk -v name="$1" '$1 == "P" || $1 == "PSP" {v = v sprintf("  %6.2f %6.2f %6.2f", $2, $3, $4)}
        END {printf "%-16s%s\n", name, v}' "$2"
}
table() { # title, ending of the files
    printf '%-16s  %6s %6s %6s  %6s %6s %6s\n' "$1" P@1 P@3 P@5 PSP@1 PSP@3 PSP@5
    for m in popularity knn model; do
        line "  $m" "$work/$m.$2"
    done
}
table headline headline
table "all labels" all
memory=$(awk '/^ *whole process/ {p = $3 " " $4; if (NF > 4) m = $5 " " $6} END {print p " planned, " m " at the peak"}' "$work/train.err")
echo "training: $seconds s (less when resumed); memory: $memory"

say "three questions: a package that does not exist, what would it depend on?"
ask() { # name (section), description
    printf '%s: %s\n' "$1" "$2"
    printf '%s\t%s\n' "$1" "$2" | "$H" predict "$work/run/model" --top 5 |
        awk -F '\t' '{printf "    %.2f  %s\n", $3, $5}'
}
ask "r-cran-mixed (gnu-r)" "mixed effects models"
ask "photo-desk (gnome)" "desktop application to edit photographs"
ask "golang-github-acme-yaml-dev (golang)" "Go library for parsing YAML"

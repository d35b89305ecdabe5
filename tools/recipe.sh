#!/bin/sh
# One data set, one recipe, one row of the results table: prepare (once), train, evaluate on test.
# Usage: recipe.sh BUILD_FOLDER WORK_FOLDER CONFIG RAW_FOLDER [prepare options ...]
set -eu
H=$1/headroom work=$2 config=$3 raw=$4
shift 4
name=$(basename "$config" .yaml)
mkdir -p "$work"
[ -d "$work/$name" ] || "$H" prepare "$raw" "$work/$name" --quiet "$@" >/dev/null
begin=$(date +%s)
"$H" train --config "$config" dataset="$work/$name" run="$work/$name-run" 2>"$work/$name.err" >/dev/null ||
    { tail -n 3 "$work/$name.err" >&2; exit 1; }
seconds=$(($(date +%s) - begin))
rss=$(awk '/whole process/ {last = $(NF - 1) " " $NF} END {print last}' "$work/$name.err")
"$H" eval "$work/$name-run/model" "$work/$name" --quiet >"$work/$name.txt"
awk -v name="$name" -v t="$seconds" -v rss="$rss" '$1 == "P" {p = $2 " / " $3 " / " $4} $1 == "PSP" {s = $2 " / " $3 " / " $4}
    END {printf "| %s | %s | %s | %d s | %s |\n", name, p, s, t, rss}' "$work/$name.txt"

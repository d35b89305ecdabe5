#!/bin/sh
# What libheadroom exports is what headroom.h declares with HR_API: no more, no less.
#
#   test_symbols.sh HEADER LIBRARY
header=$1
library=$2
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT

# a declaration may take several lines, so join them; the name is the last word before the parenthesis
tr '\n' ' ' < "$header" | sed 's/;/;\n/g' | grep 'HR_API' | grep -v '#define HR_API [^;]*$' |
    sed -n 's/.*HR_API [^;(]*[ *]\(hr_[a-z0-9_]*\)(.*/\1/p' | sort -u > "$folder/declared"
nm -D --defined-only "$library" | awk '$2 ~ /[TBDRW]/ { print $3 }' |
    grep -vE '^(_init|_fini|_edata|_end|__bss_start)$' | sed 's/@.*//' | sort -u > "$folder/exported"

[ -s "$folder/declared" ] || { echo "$header: no declarations found"; exit 2; }
if ! diff "$folder/declared" "$folder/exported" > "$folder/diff"; then
    sed -n 's/^< /declared but not exported: /p; s/^> /exported but not declared: /p' "$folder/diff"
    exit 1
fi

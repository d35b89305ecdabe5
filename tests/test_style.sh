#!/bin/sh
# What a compiler does not say: functions that do not know how long their buffer is or cannot report an error, tabs and
# blanks at the end of lines, and scripts that are no shell.
#
#   test_style.sh ROOT
cd "${1:-.}" || exit 2
bad=0
say() {
    echo "$1"
    bad=1
}

sources=$(find src include kernels cli tools fuzz -name '*.[ch]' -o -name '*.def' | sort)
[ "$(echo "$sources" | wc -l)" -gt 20 ] || { echo "few sources found: wrong folder?"; exit 2; }
# shellcheck disable=SC2086
{
    banned='sprintf|vsprintf|strcpy|strcat|strncpy|strncat|gets|atoi|atol|atoll|atof|sscanf|strtok|rand|system|alloca'
    ! grep -nE "(^|[^A-Za-z0-9_])($banned)\\(" $sources || say 'these functions are not used here'
    ! grep -nE "$(printf '\t')|[[:blank:]]\$" $sources || say 'tabs or blanks at the end of a line'
}

for script in tools/*.sh tests/*.sh tests/*/*.sh; do
    sh -n "$script" || say "$script does not parse"
done
if command -v bash >/dev/null 2>&1; then
    bash -n .ci/run || say '.ci/run does not parse'
fi
exit $bad

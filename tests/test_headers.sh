#!/bin/sh
# Every header compiles alone: it includes what it needs. kernels/body holds bodies that are compiled once for each
# variant, with the macros of that variant; they are no headers.
#
#   test_headers.sh ROOT [COMPILER]
root=${1:-.}
compiler=${2:-cc}
cd "$root" || exit 2
flags='-std=gnu17 -fsyntax-only -Wall -Wextra -Werror -Wno-unused-function -Wno-unused-const-variable -Iinclude -Isrc -I. -Icli'
bad=0
count=0
for header in $(find include src kernels cli -name '*.h' ! -path 'kernels/body/*' | sort); do
    count=$((count + 1))
    if ! printf '#include "%s"\n#include "%s"\nextern int nothing;\n' "$header" "$header" |
            $compiler $flags -x c - ; then
        echo "$header does not compile alone"
        bad=1
    fi
done
# C++ programs may use the public one
if command -v c++ >/dev/null 2>&1; then
    printf '#include "headroom.h"\nint main() { return hr_version() == nullptr; }\n' |
        c++ -fsyntax-only -Wall -Wextra -Werror -Iinclude -x c++ - || bad=1
    # those of CUDA kernels are C++; two are the halves of device.h
    for header in $(find cuda -name '*.h' ! -name device_ptx.h ! -name device_emulated.h | sort); do
        printf '#include "%s"\n#include "%s"\nextern int nothing;\n' "$header" "$header" |
            c++ -std=c++17 -fsyntax-only -Wall -Wextra -Werror -Iinclude -Isrc -I. -x c++ - || bad=1
    done
fi
[ "$count" -gt 5 ] || { echo "only $count headers found: wrong folder?"; exit 2; }
exit $bad

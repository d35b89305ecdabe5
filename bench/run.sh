#!/bin/sh
# The head's step against OpenBLAS over a grid of shapes.
#
#   bench/run.sh --quick [BUILD]           a few shapes, as text: a minute
#   bench/run.sh [BUILD [RESULTS [SVG]]]   the grid, about a quarter of an hour: one JSON line for each measurement, and the charts
#
# RESULTS (bench/results/head.jsonl) is written anew, a shape at a time. HR_BENCH_ISA and HR_BENCH_BLAS choose kernels on either side,
# HR_BENCH_THREADS ("1 2") the numbers of threads. More than one thread wants a machine that has nothing else to do.
set -eu
cd "$(dirname "$0")/.."
quick=
if [ "${1:-}" = --quick ]; then
    quick=1
    shift
fi
bench=${1:-build/release}/bench_head
results=${2:-bench/results/head.jsonl}
svg=${3:-docs/bench.svg}
isa=${HR_BENCH_ISA:-auto}
modes=dense,dense-bf16,sparse,sparse-1%
all=f32,bf16,f16,e4m3,e5m2,i8r,e3m4
few=f32,bf16,e4m3
processors=$(getconf _NPROCESSORS_ONLN)

if [ -n "$quick" ]; then
    "$bench" --modes $modes --types "$all" 256 768 65536 1 5 "$isa"
    "$bench" --types "$few" 256 256 65536 1 5 "$isa"
    "$bench" --types "$few" 64 768 65536 1 5 "$isa"
    [ "$processors" -lt 2 ] || "$bench" --types "$few" 256 768 65536 2 5 "$isa"
    exit
fi

HR_BENCH_COMMIT=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain --untracked-files=no 2>/dev/null)" ] || HR_BENCH_COMMIT=$HR_BENCH_COMMIT+
export HR_BENCH_COMMIT
mkdir -p "$(dirname "$results")"
: > "$results.tmp"

# shape B D L THREADS ROUNDS TYPES
shape() {
    [ "$4" -le "$processors" ] || return 0
    echo "B $1  D $2  L $3  threads $4  types $6" >&2
    "$bench" --json --types "$6" --modes "$modes" "$1" "$2" "$3" "$4" "$5" "$isa" >> "$results.tmp"
}

for threads in ${HR_BENCH_THREADS:-1 2}; do
    for dim in 384 768; do
        for batch in 64 128 256 512; do
            shape $batch $dim 4096 $threads 15 $all
        done
        shape 64 $dim 131072 $threads 5 $few
        shape 128 $dim 131072 $threads 5 $few
        shape 256 $dim 131072 $threads 5 $all
        shape 512 $dim 131072 $threads 3 $few
        # a step takes seconds here
        shape 64 $dim 670208 $threads 3 $few
        shape 128 $dim 670208 $threads 3 $few
        shape 256 $dim 670208 $threads 3 bf16,e4m3
        shape 512 $dim 670208 $threads 3 e4m3
    done
done
mv "$results.tmp" "$results"

# heads with some of the inputs, beside the dense ones: their own file, no chart
fan=$(dirname "$results")/fan.jsonl
: > "$results.tmp"
modes=dense,sparse,fan32,fan32-sparse,fan64,fan64-sparse,fan32x16,fan32x64,fan32x64-sparse,fan64x64,fan64x64-sparse
for threads in ${HR_BENCH_THREADS:-1 2}; do
    shape 128 768 131072 $threads 5 e4m3
    shape 256 768 131072 $threads 5 f32,e4m3,i8r
    shape 256 768 670208 $threads 3 e4m3
done
mv "$results.tmp" "$fan"
if command -v python3 >/dev/null 2>&1; then
    python3 bench/chart.py "$results" > "$svg"
    for mode in dense-bf16 sparse; do
        python3 bench/chart.py "$results" $mode > "${svg%.svg}-$mode.svg"
    done
else
    echo "no python3: $svg is not drawn" >&2
fi

#!/bin/sh
# The sparse table: prepares what data there is, trains what is not in RESULTS yet (hours; stop it whenever you like, it goes on where it
# was), then writes docs/sparse-table.md and docs/sparse.svg.
# Usage: run.sh BUILD_FOLDER WORK_FOLDER RAW_FOLDER RESULTS.jsonl [option of run.py ...]
# RAW_FOLDER has a folder for each data set, named as its recipe in configs/; debian-packages is the demo's lf/ folder, also found in demo/.
set -eu
build=$1 work=$2 raw=$3 out=$4
shift 4
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
mkdir -p "$work"
found=
for name in tibkat-gnd-41k debian-packages lf-msdocs-links-144k; do
    from=$raw/$name
    [ -d "$from" ] || [ $name != debian-packages ] || from=demo/lf # as `make demo` leaves it
    [ -d "$from" ] || [ -d "$work/$name" ] || { echo "sparse-table: no $from, it is left out" >&2; continue; }
    [ -d "$work/$name" ] || "$build/headroom" prepare "$from" "$work/$name" --quiet >/dev/null
    found="$found --data $name=$work/$name"
done
[ -n "$found" ] || { echo "sparse-table: no data in $raw" >&2; exit 66; }
HR_BENCH_COMMIT=$(git -C "$here" rev-parse --short HEAD 2>/dev/null || true)
export HR_BENCH_COMMIT
# shellcheck disable=SC2086
"$python" "$here/run.py" --build "$build" $found --out "$out" --work "$work/runs" "$@"
"$python" "$here/table.py" "$out" > "$here/../../docs/sparse-table.md"
"$python" "$here/pareto.py" "$out" > "$here/../../docs/sparse.svg"

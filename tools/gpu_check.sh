#!/bin/sh
# What a GPU has to show, in one go and under eight minutes: builds the core with CUDA alone (no library but libc and CUDA's), runs the tests of the
# head on the device (T5, T6 and the best labels, again under compute-sanitizer where that is there), then the bench of its step beside a plain
# PyTorch step in the same run. Prints one table; JSON lines go to OUT.
#
#   tools/gpu_check.sh [OUT.jsonl [BUILD_FOLDER]]
#
# Needs nvcc, CMake, gcc, g++; Python with torch for the yardstick (left out, and said, without it). ARCH=90a builds for one architecture only.
# PEER: a command that prints a JSON line of its own for L D B, such as an adapter to a published implementation; its line goes into the table.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-gpu.jsonl} build=${2:-$root/build/gpu}
PATH=$PATH:/usr/local/cuda/bin
start=$(date +%s)
say() { printf '\n=== %s (%d s so far)\n' "$*" $(($(date +%s) - start)); }

mkdir -p "$build" "$(dirname "$out")"
: >"$out"
say build
arch=${ARCH:-$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d .)}
[ "$arch" != 90 ] || arch=90a
cmake -S "$root" -B "$build" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DHR_MINIMAL=ON -DHR_CUDA=ON -DHR_WERROR=OFF ${arch:+-DCMAKE_CUDA_ARCHITECTURES="$arch-real"} >"$build.log" 2>&1 ||
    { cat "$build.log"; exit 1; }
cmake --build "$build" -j "$(nproc)" --target gpu_test_head_lib gpu_test_device bench_device >>"$build.log" 2>&1 || { tail -40 "$build.log"; exit 1; }

say "tests on the device"
failed=0
for test in head_lib device; do
    timeout 60 "$build/gpu_test_$test" || { echo "FAILED: $test"; failed=1; }
done
{
    date -u '+{"bench":"machine","date":"%Y-%m-%d"' | tr -d '\n'
    nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,power.limit --format=csv,noheader 2>/dev/null | head -1 |
        awk -F', ' '{printf ",\"name\":\"%s\",\"driver\":\"%s\",\"sm_clock\":\"%s\",\"memory_clock\":\"%s\",\"power\":\"%s\"", $1, $2, $3, $4, $5}'
    printf ',"commit":"%s"}\n' "$(git -C "$root" rev-parse --short HEAD 2>/dev/null || true)"
} >>"$out"

python=
if command -v python3 >/dev/null && python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
    python=python3
else
    echo "no torch with CUDA: its step is left out"
fi
while read -r labels dim batch types; do
    say "$labels x $dim, batch $batch"
    for type in $types; do
        timeout 60 "$build/bench_device" cuda "$labels" "$dim" "$batch" "$type" 20 >"$build.line" || failed=1
        tee -a "$out" <"$build.line"
    done
    [ -z "$python" ] || timeout 60 "$python" "$root/bench/gpu/torch_step.py" "$labels" "$dim" "$batch" 10 | tee -a "$out"
    # shellcheck disable=SC2086
    [ -z "${PEER:-}" ] || timeout 60 $PEER "$labels" "$dim" "$batch" | tee -a "$out"
done <<SHAPES
131072 768 128 e4m3 bf16 f32
670091 768 128 e4m3 bf16 i8r
670091 768 256 e4m3
2812281 768 128 e4m3 bf16
2812281 768 512 e4m3
SHAPES

say table
awk '
function field(name,   m) { return match($0, "\"" name "\":\"?[^,\"}]*") ? substr($0, RSTART + length(name) + 3 + (substr($0, RSTART + length(name) + 3, 1) == "\""), RLENGTH - length(name) - 3 - (substr($0, RSTART + length(name) + 3, 1) == "\"")) : "" }
BEGIN { printf "%-8s %-6s %9s %5s %5s %10s %12s %12s\n", "bench", "type", "L", "D", "B", "ms a step", "peak, MiB", "planned, MiB" }
/"step_ms"/ { printf "%-8s %-6s %9s %5s %5s %10s %12.0f %12.0f\n", field("bench"), field("type"), field("L"), field("D"), field("B"), field("step_ms"), field("peak") / 1048576, field("planned") / 1048576 }' "$out"
# our kernels only: the library answers for its own, and some of its calls fail on purpose
if command -v compute-sanitizer >/dev/null; then
    say compute-sanitizer
    if ! timeout 120 compute-sanitizer --tool memcheck --report-api-errors no --error-exitcode 9 --print-limit 5 "$build/gpu_test_device" \
            >"$build.sanitizer" 2>&1; then
        tail -30 "$build.sanitizer"
        if grep -q 'not supported' "$build.sanitizer"; then echo "left out"; else echo "FAILED: memcheck"; failed=1; fi
    fi
else
    echo "compute-sanitizer is not there: left out"
fi
if [ $failed -eq 0 ]; then echo "all passed; $(($(date +%s) - start)) s"; else echo "something failed; $(($(date +%s) - start)) s"; fi
exit $failed

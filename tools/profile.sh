#!/bin/sh
# Where a training run spends its processor time: one line for each function and, before them, for each part of the loop.
#
#   tools/profile.sh BUILD_FOLDER DATASET [key=value ...]      needs perf (Debian: linux-perf); one thread unless threads=N is given
set -eu
[ $# -ge 2 ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 64; }
command -v perf >/dev/null || { echo "profile.sh: perf is not installed (Debian: apt-get install linux-perf)" >&2; exit 69; }
H=$1/headroom data=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
perf record -q -F 499 -o "$work/perf.data" "$H" train dataset="$data" run="$work/run" threads=1 "$@" >"$work/out" 2>&1 ||
    { tail -n 3 "$work/out" >&2; exit 1; }
perf report -i "$work/perf.data" --no-children --percent-limit 0 --sort sym 2>/dev/null | awk '
function part(f)
{
    if (f ~ /gemm_i8/) return "head: int8 product"
    if (f ~ /quantize|int8_scores|pack_int8/) return "head: int8 codes"
    if (f ~ /sparsify|make_lists|step_sparse/ || f == "hrk_draws_avx512" || f == "hrk_draws_avx2") return "head: choice of entries"
    if (f ~ /sparse_|lists_panel|prepare_lists|draws_panel|drain|backlog/) return "head: dX, dW and update from lists"
    if (f ~ /^hrk_(gemm|sgd|decode|grad|pair|absmax)|^hr_dense|update_tile|panel_dw/) return "head: dense step"
    if (f ~ /^hrk_(reach|dot)|^hr_head_topk|scan/) return "head: search"
    if (f ~ /run_group|sum_strip|unpack_dx|hr_head_step|pack_/) return "head: order and sums"
    if (f ~ /sgemm|blas/) return "encoder: residual block (BLAS)"
    if (f ~ /batch|dropout|copy_features|position|permut/) return "encoder: batch and dropout"
    if (f ~ /adam|axpy|bow|scatter|gather|feature/) return "encoder: embeddings (axpy: also sums of dX)"
    if (f ~ /crc|checkpoint|write|copy_folio|iomap|ext4|xfs|balance_dirty/) return "writing the model and checkpoints"
    if (f ~ /clear_page|fault|folio|rmqueue|anonymous|memcg|charge/) return "fresh memory (kernel)"
    if (f ~ /sched|yield|pool|futex|idle/) return "waiting"
    return "other"
}
/^ *[0-9.]+%/ {
    share = $1
    sub(/%/, "", share)
    sum[part($NF)] += share
    if (++n <= 25)
        line[n] = sprintf("%6.1f %%  %s", share, $NF)
}
END {
    for (p in sum)
        printf "%6.1f %%  %s\n", sum[p], p | "sort -rn"
    close("sort -rn")
    print ""
    for (i = 1; i <= n && i <= 25; i++)
        print line[i]
}'

#!/bin/sh
# The demonstration kernels, which the emulator's tests run, and those of the head compile for every architecture we build for, without warnings and without
# registers in memory, into the instructions that device.h promises.
#
#   compile.sh ROOT NVCC [HOST_COMPILER]
root=${1:-.}
nvcc=${2:-nvcc}
host=${3:-c++}
out=$(mktemp -d) || exit 2
trap 'rm -rf "$out"' EXIT
bad=0
say() {
    echo "$1"
    bad=1
}

# want ARCHITECTURE COUNT INSTRUCTION: at least so many in the file for that architecture (loops may be unrolled)
want() {
    found=$(grep -cF "$3" "$out/$1.ptx")
    [ "$found" -ge "$2" ] || say "$1: $found of $3, expected $2"
}

for arch in sm_80 sm_89 sm_90a sm_120; do
    if ! "$nvcc" -ccbin "$host" -std=c++17 -arch="$arch" -I"$root" -I"$root/tests/cuda" -Werror all-warnings -Xptxas -v -cubin \
            --keep --keep-dir "$out" -o "$out/$arch.cubin" "$root/tests/cuda/kernels.cu" >"$out/$arch.log" 2>&1; then
        if grep -q gpu-architecture "$out/$arch.log"; then
            echo "$arch is unknown to this compiler"
        else
            cat "$out/$arch.log"
            say "$arch does not compile"
        fi
        continue
    fi
    mv "$out/kernels.ptx" "$out/$arch.ptx"
    grep 'bytes stack frame' "$out/$arch.log" | grep -vq ' 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads' &&
        say "$arch: registers in memory"

    # one stage of gemm_nt: two steps of two and two matrix loads and of eight products
    want "$arch" 8 'ldmatrix.sync.aligned.m8n8.x4.shared.b16'
    want "$arch" 1 'ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16'
    want "$arch" 1 'ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16'
    want "$arch" 16 'mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32'
    want "$arch" 1 'mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32'
    want "$arch" 8 'cp.async.cg.shared.global'
    want "$arch" 2 'cp.async.commit_group'
    want "$arch" 1 'cp.async.wait_group 1'
    # sm_80 has neither products nor conversions of e4m3
    if [ "$arch" = sm_80 ]; then
        want "$arch" 2 'mul.rn.f16x2'
        ! grep -q e4m3 "$out/$arch.ptx" || say "$arch: an instruction that is not there"
    else
        want "$arch" 16 'mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32'
        want "$arch" 2 'cvt.rn.f16x2.e4m3x2'
    fi
done

# what is built for devices: no registers in memory either
for arch in sm_80 sm_86 sm_89 sm_90a sm_120; do
    if "$nvcc" -ccbin "$host" -std=c++17 -arch="$arch" -I"$root/include" -I"$root/src" -I"$root" -fmad=false -Werror all-warnings -Xptxas -v -cubin \
            -o "$out/step.cubin" "$root/cuda/device_cuda.cu" >"$out/step.log" 2>&1; then
        grep 'bytes stack frame' "$out/step.log" | grep -vq ' 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads' &&
            say "$arch: cuda/device_cuda.cu has registers in memory"
        [ "$(grep -c 'bytes stack frame' "$out/step.log")" -gt 20 ] || say "$arch: too few kernels in cuda/device_cuda.cu"
    elif ! grep -q gpu-architecture "$out/step.log"; then
        cat "$out/step.log"
        say "$arch does not compile"
    fi
done
exit $bad

#!/bin/sh
# Which room includes which: reads the #include lines of the tree and names each one that looks at a room it may not.
# The list goes from the ground to the roof, as the table of rooms in the style page does: a room sees only rooms
# named on its own line, all of which stand above it.
#
#   test_layers.sh ROOT
root=${1:-.}
cd "$root" || exit 2

# room: rooms it may include
rules='
include:
src/base: base
src/dtype: dtype base
kernels: kernels dtype base/rng.h
src/backend: backend base dtype kernels
src/comm: comm base backend
cuda: cuda backend comm dtype base kernels head/head.h
src/dataset: dataset tokenizer base
src/tokenizer: tokenizer dataset base
src/loss: loss base dtype backend
src/optim: optim base dtype backend
src/encoder: encoder base dtype backend
src/head: head base dtype backend loss optim kernels
src/metrics: metrics base
src/checkpoint: checkpoint base dtype
src/config: config base
src/model: model config checkpoint head encoder tokenizer dataset backend dtype base
src/eval: eval model head metrics dataset base
src/trainer: trainer eval model config checkpoint metrics head encoder loss optim tokenizer dataset comm backend dtype base
src/predictor: predictor eval model config checkpoint metrics head encoder tokenizer dataset backend dtype base
cli: cli
'

find include src kernels cuda cli -name '*.[ch]' 2>/dev/null | sort | xargs grep -nE '^[[:space:]]*#[[:space:]]*include' |
awk -v rules="$rules" '
BEGIN {
    n = split(rules, line, "\n")
    for (i = 1; i <= n; i++) {
        if (split(line[i], part, ":") < 2)
            continue
        known[part[1]] = 1
        m = split(part[2], word, " ")
        for (j = 1; j <= m; j++)
            may[part[1], word[j]] = 1
    }
}
{
    # path:line:#include "name"
    split($0, field, ":")
    path = field[1]
    where = path ":" field[2]
    target = $0
    sub(/^[^<"]*[<"]/, "", target)
    sub(/[>"].*$/, "", target)
    system_header = $0 ~ /include[[:space:]]*</

    room = path
    if (room ~ /^src\//)
        room = "src/" substr(path, 5, index(substr(path, 5), "/") - 1)
    else
        sub(/\/.*$/, "", room)
    if (!(room in known)) {
        print where ": the room " room " is not in the table of tests/test_layers.sh"
        bad++
        next
    }
    if (system_header) {
        if (target == "errno.h" && room != "src/base" && room != "cli" && room != "cuda") {
            print where ": errno is read in src/base only"
            bad++
        }
        if (target ~ /^(imm|x86|nmm|arm_neon).*\.h$/ && path !~ /^kernels\// && room != "src/base") {
            print where ": <" target "> belongs into kernels/"
            bad++
        }
        if (target ~ /^(cuda|nccl|cublas)/ && room != "cuda") {
            print where ": <" target "> belongs into cuda/"
            bad++
        }
        next
    }
    seen++
    # a plain name is a file of the same folder; cli and include have nothing else
    other = target
    if (target == "headroom.h" || target ~ /\.def$/)
        next
    if (index(target, "/") == 0)
        other = room == "cli" ? "cli" : "(no folder)"
    else
        sub(/\/.*$/, "", other)
    if (!((room, other) in may) && !((room, target) in may)) {
        print where ": " room " may not include \"" target "\""
        bad++
    }
}
END {
    if (seen < 10) {
        print "only " seen + 0 " include lines found: wrong folder?"
        exit 2
    }
    exit bad > 0
}'

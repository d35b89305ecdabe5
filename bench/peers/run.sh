#!/bin/sh
# Every system on every data set; a line that is in RESULTS already is not repeated, a run that fails does not stop the rest.
# Usage: run.sh BUILD_FOLDER WORK_FOLDER RAW_FOLDER RESULTS.jsonl [WORD]
# RAW_FOLDER has a folder for each data set, named as its recipe in configs/; debian-packages is the demo's lf/ folder.
# With WORD only lines whose name contains it are run (links, pecos, headroom, torch, head- ...).
set -u
build=$1 work=$2 raw=$3 out=$4 word=${5:-}
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
configs=$here/../../configs
mkdir -p "$work"

wanted() { case $1 in *"$word"*) return 0 ;; esac; return 1; }
prepared() {
    [ -d "$work/$1" ] || "$build/headroom" prepare "$raw/$1" "$work/$1" --quiet >/dev/null
}
line() { # name, data set, engine, features, settings ...
    name=$1 data=$2
    shift 2
    wanted "$name" || return 0
    prepared "$data" || return 0
    more=
    [ "$data" = debian-packages ] && more="--top 45 --share 0.01" # its headline leaves out 34 labels
    echo "$name" >&2
    # shellcheck disable=SC2086
    "$python" "$here/peers.py" $more --name "$name" --out "$out" --build "$build" --data "$work/$data" --raw "$raw/$data" \
        --config "$configs/$data.yaml" --work "$work/peers" "$@" || echo "$name failed" >&2
}
torch() { # name, data set, settings ...
    name=$1 data=$2
    shift 2
    wanted "$name" || return 0
    prepared "$data" || return 0
    echo "$name" >&2
    "$python" "$here/torch_train.py" --name "$name" --out "$out" --build "$build" --data "$work/$data" \
        --work "$work/peers" "$@" || echo "$name failed" >&2
}
head_step() { # B D L threads
    wanted "head-$1-$2-$3-$4" || return 0
    grep -qs "\"head-$1-$2-$3-$4-" "$out" && return 0
    echo "head-$*" >&2
    "$python" "$here/torch_head.py" --out "$out" --build "$build" --work "$work/peers/head" "$@" || echo "head-$* failed" >&2
}

bonsai="cluster_balanced=false cluster_k=100 max_depth=3"
text="loss=hs dim=256 epoch=50 lr=0.5 wordNgrams=2 minCount=2 bucket=500000"
# shellcheck disable=SC2086
for set in links:lf-msdocs-links-144k tibkat:tibkat-gnd-41k yso:yso-finna-en-25k demo:debian-packages; do
    short=${set%%:*} data=${set#*:}
    features="words same" recipe=same
    case $short in links | demo) features="words same augmented" recipe=augmented ;; esac # their recipes train on label texts too
    line "$short-headroom" "$data" headroom $recipe
    for f in $features; do
        line "$short-pecos-$f" "$data" pecos "$f"
        line "$short-omikuji-bonsai-$f" "$data" omikuji "$f" $bonsai
    done
    line "$short-fasttext" "$data" fasttext texts $text
done
line links-omikuji-parabel-words lf-msdocs-links-144k omikuji words
line tibkat-omikuji-parabel-same tibkat-gnd-41k omikuji same
line bibtex-headroom bibtex headroom same
line bibtex-omikuji bibtex omikuji same
line bibtex-pecos bibtex pecos same nr_splits=2 max_leaf_size=50

for threads in 1 2; do
    head_step 256 256 131072 $threads
    head_step 256 768 131072 $threads
done
torch torch-bibtex bibtex augment=0 batch=64 epochs=20 dropout=0.5 encoder_lr=0.006 threads=1
torch torch-demo-1-4096 debian-packages chunk=4096 stop_after=1
torch torch-demo-whole debian-packages threads=1
torch torch-demo-2-epochs debian-packages epochs=2
line demo-headroom-2-epochs-f32 debian-packages headroom augmented train.epochs=2 head.dtype=f32
line demo-headroom-2-epochs-e4m3 debian-packages headroom augmented train.epochs=2 head.dtype=e4m3

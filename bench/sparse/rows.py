"""The set-ups of the sparse table, and the recipes of its data sets.

A row's learning rate is the data set's dense one times a factor: a label that reads k of D columns moves its logit by
lr * k / D of what a dense one would, so the factor is D / k, as far as it was found to help (docs/sparse.md)."""

# name in --data: (keys of every row, peak rate of a dense head)
DATA = {
    "tibkat-gnd-41k": ("encoder.dim=768 encoder.lr=0.003 train.epochs=4", 3),
    "debian-packages": ("encoder.dim=768 encoder.lr=0.002 train.epochs=5 train.augment=true", 8),
    "lf-msdocs-links-144k": (
        "encoder.dim=768 encoder.optimizer=adagrad encoder.lr=0.008 encoder.dropout=0.1 train.epochs=3 train.augment=true", 8),
}
# the data set with most labels takes longest: the storage types of fan-in heads are compared on the others
LARGEST = ("lf-msdocs-links-144k", {f"fan{k}-{dtype}" for k in (128, 64, 32) for dtype in ("f32", "bf16", "i8r")}
           | {"fan32-set", "fan32-rigl", "shared16-random", "layer-fan32", "unstructured64-set"})
FACTOR = {128: 6, 64: 10, 32: 16}
LAYER = 4096


def row(name, setup, keys, factor=1.0, seeds=1, **columns):
    return {"name": name, "setup": setup, "keys": keys, "factor": factor, "seeds": seeds, "k": None, "layer": 0, "dtype": "e4m3"} | columns


def fan(k, dtype="e4m3", more="", **columns):
    keys = f"head.family=fan_in head.fan_in={k} head.dtype={dtype} {more}"
    return {"keys": keys, "factor": FACTOR[k], "k": k, "dtype": dtype} | columns


def seeds(data, setup):
    """So many seeds a row has on a data set."""
    return 0 if data == LARGEST[0] and setup["name"] in LARGEST[1] else setup["seeds"]


def rows():
    for dtype in ("f32", "bf16", "e4m3"):
        yield row(f"dense-{dtype}", "dense", f"head.dtype={dtype}", dtype=dtype, seeds=3 if dtype == "e4m3" else 1)
    for dim in (384, 192, 96): # what a narrower model does with as many bytes
        yield row(f"narrow{dim}", f"dense, D = {dim}", f"head.dtype=e4m3 encoder.dim={dim}", k=dim)
    for k in (128, 64, 32):
        for dtype in ("f32", "bf16", "e4m3", "i8r"):
            yield row(f"fan{k}-{dtype}", "fan-in", **fan(k, dtype), seeds=3 if (k, dtype) == (64, "e4m3") else 1)
    for k in (64, 32):
        yield row(f"fan{k}-set", "fan-in, rewired at random", **fan(k, more="head.rewire=random head.rewire_every=100"),
                  seeds=3 if k == 64 else 1)
        yield row(f"fan{k}-rigl", "fan-in, rewired by gradient", **fan(k, more="head.rewire=gradient head.rewire_every=100"))
    for group in (16, 32, 64):
        yield row(f"shared{group}", f"fan-in shared by {group}", **fan(64, more=f"head.group={group}"), seeds=3 if group == 16 else 1)
    for grouping in ("frequency", "random"):
        yield row(f"shared16-{grouping}", f"shared by 16, grouped by {grouping}", **fan(64, more=f"head.group=16 head.grouping={grouping}"))
    yield row("shared16-rigl", "shared by 16, rewired by gradient",
              **fan(64, more="head.group=16 head.rewire=gradient head.rewire_every=100"))
    for share in (2, 10):
        more = f"head.group=16 head.dense_ratio={share / 100} head.dense_lr_scale={1 / FACTOR[64]}"
        yield row(f"headtail{share}", f"{share} % dense, the rest shared by 16", **fan(64, more=more), seeds=3 if share == 10 else 1)
    keys = "head.family=fan_in head.fan_in=112 head.dtype=e4m3 head.group=32 head.rewire=gradient head.rewire_every=100 head.dense_ratio=0.1"
    yield row("eighth", "10 % dense, the rest shared by 32, rewired by gradient", f"{keys} head.dense_lr_scale={1 / 7:.4g}", 7, seeds=3, k=112)
    more = f"head.group=16 head.dense_ratio=0.1 head.dense_lr_scale={2 / FACTOR[64]} head.dense_slice=384:768 head.slice=0:384"
    yield row("headtail10-slices", "10 % dense, the rest shared by 16, each half of the columns", **fan(64, more=more))
    for k in (64, 32): # a label's share of the layer is k / LAYER, but the layer's outputs grow as it trains: half of that factor
        keys = fan(k, more=f"layer.width={LAYER} layer.dtype=bf16 layer.lr=0.001", layer=LAYER)
        yield row(f"layer-fan{k}", f"relu layer of {LAYER}, fan-in", **keys | {"factor": LAYER / k / 2})
    keys = "head.family=unstructured head.fan_in=64 head.dtype=e4m3"
    yield row("unstructured64", "unstructured", keys, FACTOR[64], k=64)
    yield row("unstructured64-set", "unstructured, rewired at random", f"{keys} head.rewire=random head.rewire_every=100", FACTOR[64], k=64)
    yield row("bottleneck64", "bottleneck of 64, dense", "layer.width=64 layer.activation=none layer.lr=0.003 head.dtype=e4m3", layer=64)

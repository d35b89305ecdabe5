"""The head's training step in PyTorch on the CPU, as people write it, beside ours, in rounds.

  torch_head.py --out RESULTS.jsonl --build BUILD --work WORK [--rounds R] [--steps S] B D L THREADS [VARIANT ...]

One step of a full (L, D) head with sigmoid cross-entropy and SGD: from X (B, D) and four positives a row to dX and
updated weights. Variants:

  naive-f32, naive-autocast   nn.Linear, BCEWithLogitsLoss on dense targets, backward, optim.SGD; autocast: bf16 products
  f32-whole, bf16-whole       by hand: z = x w', sigmoid, minus positives, dx = z w, w -= lr z' x in place
  f32-N, bf16-N               the same for chunks of N labels, so that z is (B, N)
  medium-whole, medium-N      f32 weights under set_float32_matmul_precision("medium"): products rounded to bf16

By hand there is no bias, so the variants do a little less than ours. One thread is timed by its processor time, two by the
clock on the wall. A variant is a process of its own in each
round (measure.py takes its peak memory); our `bench_head` runs once in each round. Our peak memory is that of
`headroom train` for three steps on synthetic vectors (make_dense). One JSON line for each variant.
"""
import argparse
import datetime
import json
import os
import shutil
import statistics
import sys
import time

import measure

VARIANTS = ["naive-f32", "naive-autocast", "f32-whole", "f32-4096", "f32-16384", "bf16-whole", "bf16-4096", "bf16-16384",
            "medium-4096"]


def naive(torch, b, d, labels, autocast):
    """The textbook step."""
    head = torch.nn.Linear(d, labels)
    sgd = torch.optim.SGD(head.parameters(), lr=0.01)
    loss_of = torch.nn.BCEWithLogitsLoss(reduction="sum")
    x = torch.randn(b, d).requires_grad_()
    row, label = positives(torch, b, labels)

    def step():
        target = torch.zeros(b, labels)
        target[row, label] = 1
        x.grad = None
        sgd.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits = head(x)
        loss_of(logits.float(), target).backward()
        sgd.step()
    return step


def positives(torch, b, labels):
    n = 4 * b
    return torch.arange(n) % b, torch.arange(n) * (labels // n)


def by_hand(torch, b, d, labels, dtype, chunk):
    """The gradient of the loss written down: no autograd, no gradient of the size of the weights."""
    w = torch.empty(labels, d, dtype=dtype)
    for part in w.split(65536):  # no f32 copy of a bf16 head
        part.uniform_(-0.05, 0.05)
    x = torch.randn(b, d).to(dtype)
    row, label = positives(torch, b, labels)
    parts = []
    for first in range(0, labels, chunk):
        mine = (label >= first) & (label < first + chunk)
        parts.append((w[first:first + chunk], row[mine], label[mine] - first))
    dx = torch.empty(b, d, dtype=dtype)
    buffer = torch.empty(b * min(chunk, labels), dtype=dtype)
    one = torch.tensor(-1, dtype=dtype)

    def step():
        dx.zero_()
        for part, r, l in parts:
            z = buffer[:b * len(part)].view(b, len(part))
            torch.mm(x, part.t(), out=z)
            z.sigmoid_()
            z.index_put_((r, l), one, accumulate=True)
            dx.addmm_(z, part)
            part.addmm_(z.t(), x, alpha=-0.01)
    return step


def child(variant, b, d, labels, threads, steps):
    import resource
    import torch
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    kind, how = variant.split("-")
    if kind == "naive":
        step = naive(torch, b, d, labels, how == "autocast")
    else:
        dtype = torch.bfloat16 if kind == "bf16" else torch.float32
        torch.set_float32_matmul_precision("medium" if kind == "medium" else "highest")
        step = by_hand(torch, b, d, labels, dtype, labels if how == "whole" else int(how))
    clock = time.process_time if threads == 1 else time.perf_counter  # as bench_head does
    seconds = []
    for i in range(steps + 1):
        begin = clock()
        step()
        if i > 0:  # the first one is warm-up
            seconds.append(clock() - begin)
    print(json.dumps({"seconds": seconds, "import_mib": start, "version": torch.__version__}))


def our_turn(a):
    """Milliseconds by name, one turn of bench_head."""
    types = ["--json", "--modes", a.modes, "--types", "f32,bf16,e4m3"]
    _, text = measure.run([os.path.join(a.build, "bench_head"), *types, *map(str, (a.b, a.d, a.l, a.threads, a.steps))])
    lines = [json.loads(line) for line in text.splitlines()]
    ms = {"headroom-" + m["type"] + m["mode"].replace("dense", "", 1): m["median_ms"] for m in lines}
    return {"openblas": lines[0]["baseline_ms"], **ms}


def our_peaks(a):
    """Peak memory of whole `headroom train` processes that do three steps of this shape."""
    tool, raw, data, run = os.path.join(a.build, "headroom"), *(os.path.join(a.work, n) for n in ("raw", "data", "run"))
    os.makedirs(a.work, exist_ok=True)
    measure.run([os.path.join(a.build, "make_dense"), raw, "1024", str(a.d), str(a.l)])
    measure.run([tool, "prepare", "--quiet", raw, data])
    peaks = {}
    for dtype in ("f32", "bf16", "e4m3"):
        shutil.rmtree(run, ignore_errors=True)
        keys = [f"dataset={data}", f"run={run}", f"encoder.dim={a.d}", f"head.dtype={dtype}", f"train.batch={a.b}",
                "encoder.type=dense", "encoder.dropout=0", "head.lr=0.1", "train.max_steps=3", "train.validation=0"]
        cost, _ = measure.run([tool, "train", "--quiet", "--force", f"threads={a.threads}", *keys])
        peaks["headroom-" + dtype] = cost["peak_mib"]
    for folder in (raw, data, run):
        shutil.rmtree(folder)
    return peaks


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", required=True)
    p.add_argument("--build", required=True)
    p.add_argument("--work", required=True)
    p.add_argument("--modes", default="dense,dense-bf16", help="of bench_head")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--steps", type=int, default=3, help="timed steps of a round")
    for name in ("b", "d", "l", "threads"):
        p.add_argument(name, type=int)
    p.add_argument("variants", nargs="*", default=VARIANTS)
    a = p.parse_args()
    variants = a.variants or VARIANTS
    ms, peak, start, version = {}, our_peaks(a), {}, ""
    for _ in range(a.rounds):
        for name, value in our_turn(a).items():
            ms.setdefault(name, []).append(value)
        for v in variants:
            sizes = [str(n) for n in (a.b, a.d, a.l, a.threads, a.steps)]
            cost, text = measure.run([sys.executable, __file__, "--child", v, *sizes])
            got = measure.last_json(text)
            ms.setdefault(v, []).extend(1000 * s for s in got["seconds"])
            peak[v] = max(cost["peak_mib"], peak.get(v, 0))
            start[v], version = got["import_mib"], got["version"]
    for name, times in ms.items():
        measure.append(a.out, {
            "name": f"head-{a.b}-{a.d}-{a.l}-{a.threads}-{name}", "variant": name, "B": a.b, "D": a.d, "L": a.l,
            "threads": a.threads, "median_ms": round(statistics.median(times), 1), "min_ms": round(min(times), 1),
            "max_ms": round(max(times), 1), "peak_mib": peak.get(name), "import_mib": start.get(name), "torch": version,
            "date": datetime.date.today().isoformat()})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], *map(int, sys.argv[3:]))
    else:
        try:
            main()
        except measure.Failed as failed:
            sys.exit(str(failed))

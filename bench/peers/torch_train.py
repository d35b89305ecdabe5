"""The whole training in PyTorch on the CPU: the same model, data, rates and schedule as `headroom train`.

  torch_train.py --name LINE --out RESULTS.jsonl --build BUILD --data PREPARED --work WORK [key=value ...]

Keys: dim, dropout, encoder_lr, head_lr, batch, epochs, augment, validation, chunk (0: the whole head at once), threads,
seed, stop_after (epochs that are really run; the schedule stays that of `epochs`). Defaults are configs/debian-packages.yaml.

Bag of embeddings (nn.EmbeddingBag, sum, sparse gradients, optim.SparseAdam), residual block (optim.Adam), unit length,
dropout, an f32 head with sigmoid cross-entropy and SGD by hand (torch_head.py has the step alone). Rows held out for
validation are left out here too, but not looked at.
"""
import argparse
import datetime
import json
import math
import os
import sys
import time

import measure

DEFAULTS = {"dim": 256, "dropout": 0.3, "encoder_lr": 0.002, "head_lr": 8.0, "batch": 256, "epochs": 8, "augment": 1,
            "validation": 0.02, "chunk": 0, "threads": 2, "seed": 42, "stop_after": 0}
WARMUP = 0.05
TOP = 45  # labels of a ranking: the headline of the demo leaves out 34 labels


def schedule(t, steps):
    """Share of the peak rates at step t: warm-up, then a cosine (src/optim/schedule.c)."""
    warmup = round(WARMUP * steps)
    if t < warmup:
        return (t + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (t - warmup) / max(1, steps - warmup)))


def load(data, s):
    """Instances (features, labels), test features, L, F."""
    import numpy as np
    import scipy.sparse as sp
    from inputs import prepared_csr
    with open(os.path.join(data, "manifest.json")) as f:
        m = json.load(f)
    x = prepared_csr(data, "train.features", m["features"])
    y = prepared_csr(data, "train.labels", m["labels"])
    keep = np.sort(np.random.default_rng(s["seed"]).permutation(x.shape[0])[round(s["validation"] * x.shape[0]):])
    mean = y.nnz / y.shape[0]
    if s["augment"]:
        mean = (y.nnz + m["labels"]) / (y.shape[0] + m["labels"])
        x = sp.vstack([x[keep], prepared_csr(data, "label.features", m["features"])]).tocsr()
        y = sp.vstack([y[keep], sp.identity(m["labels"], np.float32)]).tocsr()
    else:
        x, y = x[keep], y[keep]
    return x, y, prepared_csr(data, "test.features", m["features"]), mean


def make_model(torch, features, s):
    nn, dim = torch.nn, s["dim"]

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.bag = nn.EmbeddingBag(features, dim, mode="sum", sparse=True)
            self.first, self.second = nn.Linear(dim, dim), nn.Linear(dim, dim)
            self.drop = nn.Dropout(s["dropout"])
            nn.init.normal_(self.bag.weight, std=dim ** -0.5)
            nn.init.normal_(self.first.weight, std=dim ** -0.5)
            for zero in (self.first.bias, self.second.weight, self.second.bias):
                nn.init.zeros_(zero)

        def forward(self, rows):
            indices, offsets, values = rows
            h = self.bag(indices, offsets, per_sample_weights=values)
            h = h + self.second(torch.relu(self.first(h)))
            return self.drop(nn.functional.normalize(h, dim=1))
    return Encoder()


def batch_of(torch, m, ids):
    part = m[ids]
    return (torch.from_numpy(part.indices.astype("int64")), torch.from_numpy(part.indptr[:-1].astype("int64")),
            torch.from_numpy(part.data))


def head_step(torch, w, x, row, label, bias, lr, chunk, buffer):
    """dX; `row` and `label` are the positives, by label."""
    dx = torch.zeros_like(x)
    bounds = torch.searchsorted(label, torch.arange(0, len(w) + chunk, chunk)).tolist()
    for i, first in enumerate(range(0, len(w), chunk)):
        part, at = w[first:first + chunk], slice(bounds[i], bounds[i + 1])
        z = buffer[:len(x) * len(part)].view(len(x), len(part))
        torch.addmm(bias, x, part.t(), out=z)
        z.sigmoid_()
        z[row[at], label[at] - first] -= 1
        dx.addmm_(z, part)
        part.addmm_(z.t(), x, alpha=-lr)
    return dx


def rank_test(torch, encoder, w, test, ranking):
    encoder.eval()
    with torch.no_grad(), open(ranking, "w") as out:
        for at in range(0, test.shape[0], 256):
            x = encoder(batch_of(torch, test, range(at, min(at + 256, test.shape[0]))))
            scores, labels = (x @ w.t()).topk(min(TOP, len(w)))
            for r in range(len(scores)):
                out.write(" ".join(f"{label}:{v:.9g}" for label, v in zip(labels[r].tolist(), scores[r].tolist())) + "\n")


def child(data, ranking, settings):
    import numpy as np
    import torch
    s = json.loads(settings)
    torch.set_num_threads(s["threads"])
    torch.manual_seed(s["seed"])
    x, y, test, mean = load(data, s)
    labels, n = y.shape[1], x.shape[0]
    encoder = make_model(torch, x.shape[1], s)
    sparse = torch.optim.SparseAdam(list(encoder.bag.parameters()))
    dense = torch.optim.Adam([*encoder.first.parameters(), *encoder.second.parameters()])
    w = torch.zeros(labels, s["dim"])
    bias = torch.full((1, 1), math.log(mean / labels))
    chunk = s["chunk"] or labels
    buffer = torch.empty(s["batch"] * min(chunk, labels))
    per_epoch = -(-n // s["batch"])
    total, t, epochs = per_epoch * s["epochs"], 0, []
    parts = {"encoder_s": 0.0, "head_s": 0.0, "update_s": 0.0}
    for epoch in range(s["stop_after"] or s["epochs"]):
        begin = time.perf_counter()
        order = np.random.default_rng((s["seed"], epoch)).permutation(n)
        for at in range(0, n, s["batch"]):
            ids, factor = order[at:at + s["batch"]], schedule(t, total)
            t0 = time.perf_counter()
            positives = y[ids].tocoo()
            by_label = np.argsort(positives.col, kind="stable")
            row, label = (torch.from_numpy(p[by_label].astype("int64")) for p in (positives.row, positives.col))
            out = encoder(batch_of(torch, x, ids))
            t1 = time.perf_counter()
            with torch.no_grad():
                dx = head_step(torch, w, out.detach(), row, label, bias, s["head_lr"] * factor, chunk, buffer)
            t2 = time.perf_counter()
            for optimizer in (sparse, dense):
                optimizer.param_groups[0]["lr"] = s["encoder_lr"] * factor
                optimizer.zero_grad()
            out.backward(dx)
            sparse.step()
            dense.step()
            t3 = time.perf_counter()
            parts["encoder_s"] += t1 - t0
            parts["head_s"] += t2 - t1
            parts["update_s"] += t3 - t2
            t += 1
        epochs.append(round(time.perf_counter() - begin, 2))
        print(f"epoch {epoch + 1}: {epochs[-1]} s", file=sys.stderr, flush=True)
    rank_test(torch, encoder, w, test, ranking)
    print(json.dumps({"epochs_s": epochs, "steps": t, "version": torch.__version__,
                      **{k: round(v, 2) for k, v in parts.items()}}))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("name", "out", "build", "data", "work"):
        p.add_argument("--" + flag, required=True)
    p.add_argument("settings", nargs="*")
    a = p.parse_args()
    if a.name in measure.names_done(a.out):
        return
    s = dict(DEFAULTS, **{k: json.loads(v) for k, v in (pair.split("=", 1) for pair in a.settings)})
    os.makedirs(a.work, exist_ok=True)
    ranking = os.path.join(a.work, a.name + ".ranking")
    cost, text = measure.run([sys.executable, __file__, "--child", a.data, ranking, json.dumps(s)])
    cost.update(measure.last_json(text))
    record = {"name": a.name, "engine": "pytorch", "data": os.path.basename(os.path.normpath(a.data)), "settings": s,
              "date": datetime.date.today().isoformat(), "train": cost}
    headline = [("headline_", ["--max-label-share", "0.01"])] if record["data"] == "debian-packages" else []
    for key, more in [("", []), *headline]:
        tool = [os.path.join(a.build, "headroom"), "eval", "--predictions", ranking, a.data, "--json", "--quiet", *more]
        m = json.loads(measure.run(tool)[1])
        record[key + "P"] = [round(100 * v, 3) for v in m["precision"][:3]]
        record[key + "PSP"] = [round(100 * v, 3) for v in m["psp"][:3]]
    measure.append(a.out, record)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        try:
            main()
        except measure.Failed as failed:
            sys.exit(str(failed))

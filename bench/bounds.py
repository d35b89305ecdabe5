#!/usr/bin/env python3
"""What bounds on logits could save of a step over all labels, on a trained model (docs/results.md).

Usage: bounds.py MODEL_FOLDER DATA_FOLDER [TAU]     a bow model with an e4m3 head; needs NumPy
"""
import json
import struct
import sys

import numpy as np

ROWS, CLUSTERS = 500, 512


def tensors(path):
    with open(path, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(size))
    raw = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + size)
    return {k: (v["shape"], raw[v["data_offsets"][0]:v["data_offsets"][1]]) for k, v in header.items() if k != "__metadata__"}


def e4m3_values():
    code = np.arange(256)
    field, m = code >> 3 & 15, code & 7
    size = np.where(field == 0, m / 8 * 2.0**-6, (1 + m / 8) * 2.0 ** (field - 7.0))
    return np.where(code >> 7, -size, size).astype(np.float32)


def load(model, data):
    parts = tensors(model + "/model.safetensors")
    get = lambda k: np.frombuffer(parts[k][1].tobytes(), np.float32).reshape(parts[k][0])
    e, w1, b1, w2, b2 = (get("encoder." + k) for k in ("embedding", "w1", "b1", "w2", "b2"))
    shape, codes = tensors(model + "/head-00000-of-00001.safetensors")["head.0.codes"]
    w = e4m3_values()[codes].reshape(shape)[:, : e.shape[1]] / 64
    ptr, idx, val = (np.load(f"{data}/test.features.{k}.npy", mmap_mode="r") for k in ("indptr", "indices", "values"))
    x = np.stack([val[ptr[i]:ptr[i + 1]] @ e[idx[ptr[i]:ptr[i + 1]]] for i in range(4 * ROWS)])
    x = x + np.maximum(x @ w1.T + b1, 0) @ w2.T + b2
    labels = np.load(data + "/train.labels.indptr.npy", mmap_mode="r")
    return x / np.linalg.norm(x, axis=1, keepdims=True), w, np.log(labels[-1] / (len(labels) - 1) / len(w))


def main():
    x, w, bias = load(*sys.argv[1:3])
    tau = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0125
    sigmoid = lambda z: 1 / (1 + np.exp(-z))
    norm = np.linalg.norm(w, axis=1)
    z = x[:ROWS] @ w.T + bias
    g = sigmoid(z)
    print("norms of rows, percentiles 5, 50, 99:", np.percentile(norm, [5, 50, 99]).round(1), " density", np.minimum(1, g / tau).mean().round(5))
    print("norm bound: candidates %.4f" % np.minimum(1, sigmoid(norm + bias) / tau).mean())
    _, v = np.linalg.eigh(x.T @ x)
    xr, wr = x[:ROWS] @ v[:, ::-1], w @ v[:, ::-1]
    least = np.where(g < tau, g * (tau - g), 0).sum()
    for q in (x.shape[1] // 4, x.shape[1] // 2, 3 * x.shape[1] // 4):
        part = xr[:, :q] @ wr[:, :q].T + bias
        rest = np.linalg.norm(xr[:, q:], axis=1)[:, None] * np.linalg.norm(wr[:, q:], axis=1)
        print("first %d columns: candidates by a rigorous bound %.4f" % (q, np.minimum(1, sigmoid(part + rest) / tau).mean()))
        for c in (1, 2):
            p = np.minimum(1, np.exp(np.minimum(part + c, 0)) / tau)
            print("  as a weight, c = %d: candidates %.4f, variance added %.2f of the law's" % (c, p.mean(), (g * g / p - g * g).sum() / least))
    centre = w[np.random.default_rng(0).choice(len(w), CLUSTERS, False)].copy()
    for _ in range(8):
        of = np.argmax(w @ centre.T - 0.5 * (centre**2).sum(1), 1)
        for c in np.unique(of):
            centre[c] = w[of == c].mean(0)
    radius = np.array([np.linalg.norm(w[of == c] - centre[c], axis=1).max() if (of == c).any() else 0 for c in range(CLUSTERS)])
    rate = np.minimum(1, sigmoid(x[:ROWS] @ centre.T + radius + bias) / tau)
    print("clusters: candidates %.4f, median radius %.1f" % ((rate * np.bincount(of, minlength=CLUSTERS)).sum() / z.size, np.median(radius)))


main()

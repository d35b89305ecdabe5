#!/usr/bin/env python3
"""A plain PyTorch training step of the head, the yardstick of tools/gpu_check.sh: bf16 weights without a master copy, labels in chunks, the
gradient of binary cross-entropy, SGD with stochastic rounding. One JSON object; its peak leaves out the context, which bench_device counts, and X stays on the device.

  torch_step.py [L D B [rounds [chunk]]]"""
import json
import sys
import time

import torch

POSITIVES = 3  # of an instance


def update(w, dw, lr):
    """w - lr dw in f32, and 16 random bits below the ones that bf16 keeps."""
    bits = torch.add(w.float(), dw.float(), alpha=-lr).view(torch.int32)
    bits += torch.randint(0, 65536, bits.shape, device=w.device, dtype=torch.int32)
    w.copy_((bits & -65536).view(torch.float32).bfloat16())


def step(weights, x, rows, labels, starts, lr, chunk):
    """rows, labels: of the positives, by label; starts: the labels again, on the host, so that no chunk waits for the device."""
    dx = torch.zeros(x.shape, device=x.device)
    for first in range(0, weights.shape[0], chunk):
        w = weights[first:first + chunk]
        g = torch.sigmoid((x @ w.T).float() - 12)
        here = slice(*torch.searchsorted(starts, torch.tensor([first, first + chunk])).tolist())
        g[rows[here], labels[here] - first] -= 1
        g = g.bfloat16()
        dx += (g @ w).float()
        update(w, g.T @ x, lr)
    return dx


def main():
    size, dim, batch, rounds, chunk = (int(v) for v in (sys.argv[1:] + ["131072", "768", "128", "10", "32768"][len(sys.argv) - 1:]))
    torch.manual_seed(1)
    weights = ((torch.rand(size, dim, device="cuda", dtype=torch.bfloat16) - 0.5) * 0.1)
    x = ((torch.rand(batch, dim, device="cuda") - 0.5) * 0.125).bfloat16()
    rows = torch.arange(batch, device="cuda").repeat_interleave(POSITIVES)
    labels, order = torch.randint(0, size, rows.shape, device="cuda").sort()
    rows, starts = rows[order], labels.cpu()
    times = []
    for i in range(rounds + 3):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        step(weights, x, rows, labels, starts, 8.0, chunk)
        torch.cuda.synchronize()
        if i >= 3:
            times.append(1e3 * (time.perf_counter() - begin))
    times.sort()
    print(json.dumps({"bench": "torch", "name": torch.cuda.get_device_name(), "torch": torch.__version__, "type": "bf16", "L": size, "D": dim,
                      "B": batch, "rounds": rounds, "step_ms": round(times[len(times) // 2], 4), "peak": torch.cuda.max_memory_allocated()}, separators=(",", ":")))


if __name__ == "__main__":
    main()

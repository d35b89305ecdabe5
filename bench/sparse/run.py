#!/usr/bin/env python3
"""Trains every row of rows.py on every data set and records what it costs and reaches.

  run.py --build BUILD --data NAME=PREPARED_FOLDER ... --out RESULTS.jsonl --work FOLDER [--only WORD] [--seeds 3] [--threads 1] [--limit HOURS]

Resumable: a row that is in RESULTS with the same keys is not repeated, a run that was stopped goes on where it was."""
import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import zlib

from rows import DATA, rows, seeds


def headroom(args, *command):
    done = subprocess.run([os.path.join(args.build, "headroom"), *command], stdout=subprocess.PIPE, check=False)
    return done.returncode, done.stdout


def percent(values, count=3):
    return [round(100 * v, 2) for v in values[:count]]


def evaluate(args, model, data, split):
    code, out = headroom(args, "eval", model, data, "--split", split, "--json", "--quiet", "--threads", str(args.threads))
    return json.loads(out) if code == 0 else None


def spent(events, key):
    """Sum over the processes of a run that was stopped: in each the clock begins anew."""
    total = last = 0
    for value in (e[key] for e in events if key in e):
        total += last if value < last else 0
        last = value
    return total + last


def measure(args, name, data, setup, seed):
    """One training: its record, or None when it failed."""
    common, lr = DATA[name]
    keys = f"{common} {setup['keys']} head.lr={lr * setup['factor']:.6g} seed={seed}"
    run = os.path.join(args.work, f"{name}-{setup['name']}-{seed}-{zlib.crc32(keys.encode()):08x}") # a row that changed begins anew
    code, out = headroom(args, "train", "--json", "--quiet", "--threads", str(args.threads), f"dataset={data}", f"run={run}", *keys.split())
    if code != 0:
        print(f"{name} {setup['name']}: exit status {code}", file=sys.stderr)
        return None
    report = json.loads(out)
    with open(os.path.join(run, "log.jsonl"), encoding="utf-8") as log:
        events = [json.loads(line) for line in log]
    last = [e for e in events if e["event"] == "step"][-1]
    moved = [e for e in events if e["event"] == "rewire"]
    test, train = (evaluate(args, os.path.join(run, "model"), data, split) for split in ("test", "train"))
    model = os.path.join(run, "model")
    if not test or not train:
        return None
    record = {
        "data": name, "row": setup["name"], "seed": seed, "keys": keys, "date": time.strftime("%Y-%m-%d"),
        "commit": os.environ.get("HR_BENCH_COMMIT", ""), "threads": args.threads,
        "P": percent(test["precision"]), "PSP": percent(test["psp"]), "train_P": percent(train["precision"]),
        "validation": report["best_metric"], "epochs": report["epochs"], "seconds_epoch": round(spent(events, "seconds") / last["epoch"], 2),
        "cpu_seconds_epoch": round(spent(events, "cpu_seconds") / last["epoch"], 2),
        "head_planned": report["plan"]["bytes"]["head_weights"] + report["plan"]["bytes"]["head_state"],
        "head_measured": report["memory"]["peak"]["head_weights"] + report["memory"]["peak"]["head_state"],
        "weights_planned": report["plan"]["bytes"]["head_weights"], "weights_measured": report["memory"]["peak"]["head_weights"],
        "rss": report["memory"]["rss_peak"], "plan_total": report["plan"]["total"],
        "model_bytes": sum(os.path.getsize(os.path.join(model, f)) for f in os.listdir(model)),
        "density": last.get("density"), "moved": sum(e["pruned"] for e in moved), "rewirings": len(moved),
    }
    shutil.rmtree(run)
    return record


def done_already(path):
    if not os.path.exists(path):
        return set()
    with open(path, encoding="utf-8") as lines:
        return {(r["data"], r["row"], r["seed"], r["keys"]) for r in map(json.loads, lines)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", required=True)
    parser.add_argument("--data", action="append", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--out", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--seeds", type=int, default=3, help="at most so many of a row")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=float, default=12, help="hours after which no further row is begun")
    args = parser.parse_args()
    os.makedirs(args.work, exist_ok=True)
    begin = time.monotonic()
    for seed in range(1, args.seeds + 1):
        for setup in rows():
            for name, data in (d.split("=", 1) for d in args.data):
                keys = f"{DATA[name][0]} {setup['keys']} head.lr={DATA[name][1] * setup['factor']:.6g} seed={seed}"
                if seed > seeds(name, setup) or args.only not in f"{name} {setup['name']}":
                    continue
                if (name, setup["name"], seed, keys) in done_already(args.out):
                    continue
                if time.monotonic() - begin > args.limit * 3600:
                    return
                record = measure(args, name, data, setup, seed)
                if record:
                    with open(args.out, "a", encoding="utf-8") as out:
                        out.write(json.dumps(record) + "\n")
                    print(name, setup["name"], seed, record["P"], f"{record['cpu_seconds_epoch']} s an epoch", flush=True)


if __name__ == "__main__":
    main()

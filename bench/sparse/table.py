#!/usr/bin/env python3
"""The records of run.py as one Markdown table for each data set, in the order of rows.py; rows of several seeds are means.

  table.py RESULTS.jsonl > docs/sparse-table.md"""
import json
import math
import sys
from statistics import mean, stdev

from rows import DATA, rows

STUDENT = {2: 12.706, 3: 4.303}  # 95 %, two-sided


def load(path):
    found = {}
    with open(path, encoding="utf-8") as lines:
        for r in map(json.loads, lines):
            found.setdefault((r["data"], r["row"]), {})[r["seed"]] = r  # the last one counts
    return found


def scores(records, key):
    return " / ".join(f"{mean(r[key][i] for r in records):.2f}" for i in range(3))


def margin(records):
    """Half the 95 % interval of P@1 over the seeds."""
    if len(records) not in STUDENT:
        return ""
    return f" ± {STUDENT[len(records)] * stdev(r['P'][0] for r in records) / math.sqrt(len(records)):.2f}"


def size(values):
    return f"{mean(values) / 2**20:.2f}"


def line(setup, records):
    first = records[0]
    share = "all" if setup["k"] is None else str(setup["k"])
    exact = all(r["head_planned"] >= r["head_measured"] and r["weights_planned"] == r["weights_measured"] for r in records)
    return (f"| {setup['setup']} | {share} | {setup['layer'] or '–'} | {setup['dtype']} | {mean(r['train_P'][0] for r in records):.2f} "
            f"| {scores(records, 'P')}{margin(records)} | {scores(records, 'PSP')} | {size([r['weights_measured'] for r in records])}"
            f"{'' if exact else ' (planned ' + size([r['weights_planned'] for r in records]) + ')'} "
            f"| {mean(r['rss'] for r in records) / 2**20:.0f} | {first['epochs']} | {mean(r['cpu_seconds_epoch'] for r in records):.1f} |")


def main():
    found = load(sys.argv[1])
    for name, (common, lr) in DATA.items():
        done = [(s, list(found[name, s["name"]].values())) for s in rows() if (name, s["name"]) in found]
        if not done:
            continue
        print(f"\n### {name}\n\nOf all rows: `{common}`; peak rate of the head {lr} times the row's factor (`bench/sparse/rows.py`). "
              "Sparse gradient. Times are processor seconds of one thread.\n")
        print("| set-up | inputs of a label | layer | type | train P@1 | P@1 / 3 / 5 | PSP@1 / 3 / 5 | head, MiB | peak RSS, MiB | epochs | s an epoch |")
        print("|---|---|---|---|---|---|---|---|---|---|---|")
        for setup, records in done:
            print(line(setup, records))


if __name__ == "__main__":
    main()

"""Results of peers.py, torch_head.py and torch_train.py as the Markdown tables of docs/peers.md.

  table.py RESULTS.jsonl ...
"""
import json
import sys

ORDER = ["headroom", "pecos", "omikuji", "fasttext"]
BONSAI = {"cluster_balanced": False, "cluster_k": 100, "max_depth": 3}
NAMES = {"headroom": "**headroom**", "pecos": "PECOS XR-Linear", "omikuji": "omikuji", "fasttext": "fastText"}


def scores(values, best):
    """1 / 3 / 5, the best of the table in bold."""
    return " / ".join(f"**{v:.2f}**" if v == top else f"{v:.2f}" for v, top in zip(values, best))


def size(mib):
    return f"{mib / 1024:.2f} GiB" if mib >= 1000 else f"{mib:.0f} MiB"


def seconds(s):
    return f"{s:.0f}" if s >= 10 else f"{s:.1f}"


def settings(r):
    if r["settings"] == BONSAI:
        return "Bonsai style"
    return " ".join(f"{k}={v}" for k, v in r["settings"].items()) or "recipe" * (r["engine"] == "headroom") or "defaults"


def cost(c):
    return f"{seconds(c['wall_s'])} s ({seconds(c['user_s'] + c['sys_s'])} s)"


def whole_task(data, rows):
    print(f"\n### {data}\n")
    rows = sorted(rows, key=lambda r: (ORDER.index(r["engine"]), settings(r), r["features"]))
    both = ["", "headline_"] if any("headline_P" in r for r in rows) else [""]
    print("| system | features |" + "".join(f" {h}P@1 / 3 / 5 | {h}PSP@1 / 3 / 5 |" for h in both).replace("_", " "))
    print("|---|---|" + "---|---|" * len(both))
    best = {h + m: [max(r[h + m][k] for r in rows if h + m in r) for k in range(3)] for h in both for m in ("P", "PSP")}
    for r in rows:
        print(f"| {NAMES[r['engine']]}, {settings(r)} | {r['features']} | " +
              " | ".join(scores(r[m], best[m]) if m in r else "–" for m in best) + " |")
    print("\n| system | features | training: wall (CPU) | its peak | model | a test row | its peak |")
    print("|---|---|---|---|---|---|---|")
    for r in rows:
        t, p = r["train"], r["predict"]
        print(f"| {NAMES[r['engine']]}, {settings(r)} | {r['features']} | {cost(t)} | {size(t['peak_mib'])} | "
              f"{size(r['model_bytes'] / 2**20)} | {p['ms_per_row']:.2f} ms | {size(p['peak_mib'])} |")


def head_steps(shape, rows):
    b, d, labels, threads = shape
    print(f"\n### B {b}, D {d}, L {labels:,}, {threads} thread{'s' if threads > 1 else ''}\n")
    print("| step | fastest | median | slowest | speed, headroom e4m3 = 1 | peak of the process | of that after the import |")
    print("|---|---|---|---|---|---|---|")
    ours = next(r["min_ms"] for r in rows if r["variant"] == "headroom-e4m3")
    for r in rows:
        peak = size(r["peak_mib"]) if r["peak_mib"] else "–"
        step = size(r["peak_mib"] - r["import_mib"]) if r["import_mib"] else "–"
        name = r["variant"] if r["variant"].startswith(("headroom", "openblas")) else "PyTorch " + r["variant"]
        print(f"| {name} | {r['min_ms']:.0f} ms | {r['median_ms']:.0f} | {r['max_ms']:.0f} | {ours / r['min_ms']:.2f} | "
              f"{peak} | {step} |")


def trainings(rows):
    print("\n### Whole trainings in PyTorch\n")
    print("| run | P@1 / 3 / 5 | PSP@1 / 3 / 5 | headline P@1 / 3 / 5 | headline PSP@1 / 3 / 5 | training: wall (CPU) |"
          " an epoch | peak |")
    print("|---|---|---|---|---|---|---|---|")
    for r in rows:
        t = r["train"]
        four = (" / ".join(f"{v:.2f}" for v in r.get(k, [])) or "–" for k in ("P", "PSP", "headline_P", "headline_PSP"))
        epoch = sorted(t["epochs_s"])[len(t["epochs_s"]) // 2]
        print(f"| {r['name']} | {' | '.join(four)} | {cost(t)} | {seconds(epoch)} s | {size(t['peak_mib'])} |")


def main(paths):
    records = [json.loads(line) for path in paths for line in open(path) if line.strip()]
    groups = {}
    for r in records:
        key = ("step", r["B"], r["D"], r["L"], r["threads"]) if "variant" in r else ("torch",) if r["engine"] == "pytorch" else \
            ("data", r["data"])
        groups.setdefault(key, []).append(r)
    for key, rows in groups.items():
        if key[0] == "data":
            whole_task(key[1], rows)
        elif key[0] == "step":
            head_steps(key[1:], rows)
        else:
            trainings(rows)


if __name__ == "__main__":
    main(sys.argv[1:])

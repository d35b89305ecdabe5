#!/usr/bin/env python3
"""P@1 against the bytes of the head, every row of the records of run.py, as an SVG; those that no other beats in both are joined.

  pareto.py RESULTS.jsonl > docs/sparse.svg

Needs nothing but Python. The picture follows the reader's light or dark theme."""
import math
import sys
from html import escape
from statistics import mean

from rows import DATA, rows
from table import load

WIDTH, HEIGHT, LEFT, TOP, GAP = 340, 250, 56, 74, 62
KINDS = {"dense": "#222222", "fan-in": "#3b7dd8", "shared": "#d9541e", "head and tail": "#2a9d6e", "unstructured": "#888888",
         "layer, bottleneck": "#c2408f", "narrower": "#b08a00"}
STYLE = """
  text { font: 11px system-ui, sans-serif; fill: #222; } .title { font-size: 14px; font-weight: 600; } .quiet { fill: #666; }
  .name { font-weight: 600; } .grid { stroke: #ddd; } .front { stroke: #999; stroke-dasharray: 4 3; fill: none; } .back { fill: #fff; }
  @media (prefers-color-scheme: dark) { text { fill: #e6e6e6; } .quiet { fill: #a0a0a0; } .grid { stroke: #3a3f45; }
    .back { fill: #16191d; } .dense { fill: #e6e6e6 !important; } }
"""


def kind(setup):
    words = setup["setup"]
    if setup["name"].startswith("narrow"):
        return "narrower"
    if setup["layer"]:
        return "layer, bottleneck"
    if "%" in words:
        return "head and tail"
    return next((k for k in ("unstructured", "shared", "fan-in", "dense") if k in words), "fan-in")


def points(found, name):
    for setup in rows():
        records = found.get((name, setup["name"]), {}).values()
        if records:
            yield (mean(r["weights_measured"] for r in records) / 2**20, mean(r["P"][0] for r in records), kind(setup),
                   f"{setup['setup']}, {setup['k'] or 'all'} inputs, {setup['dtype']}")


def front(cloud):
    best, line = -math.inf, []
    for size, score, _, _ in sorted(cloud):
        if score > best:
            best = score
            line.append((size, score))
    return line


def panel(name, cloud, left):
    low, high = (f(math.log2(p[0]) for p in cloud) for f in (min, max))
    low, high = math.floor(low), math.ceil(high)
    bottom, top = math.floor(min(p[1] for p in cloud)), math.ceil(max(p[1] for p in cloud))

    def x(size):
        return left + WIDTH * (math.log2(size) - low) / max(high - low, 1)

    def y(score):
        return TOP + HEIGHT * (top - score) / max(top - bottom, 1)

    out = [f'<text class="name" x="{left}" y="{TOP - 12}">{escape(name)}</text>']
    for power in range(low, high + 1):
        out.append(f'<line class="grid" x1="{x(2**power):.1f}" y1="{TOP}" x2="{x(2**power):.1f}" y2="{TOP + HEIGHT}"/>'
                   f'<text class="quiet" text-anchor="middle" x="{x(2**power):.1f}" y="{TOP + HEIGHT + 15}">{2**power:g}</text>')
    for score in range(bottom, top + 1, max(1, (top - bottom) // 8)):
        out.append(f'<line class="grid" x1="{left}" y1="{y(score):.1f}" x2="{left + WIDTH}" y2="{y(score):.1f}"/>'
                   f'<text class="quiet" text-anchor="end" x="{left - 6}" y="{y(score) + 4:.1f}">{score}</text>')
    path = " ".join(f"{'L' if i else 'M'}{x(s):.1f} {y(v):.1f}" for i, (s, v) in enumerate(front(cloud)))
    out.append(f'<path class="front" d="{path}"/>')
    for size, score, what, title in cloud:
        out.append(f'<circle class="{"dense" if what == "dense" else ""}" cx="{x(size):.1f}" cy="{y(score):.1f}" r="4" fill="{KINDS[what]}">'
                   f"<title>{escape(title)}: {score:.2f} in {size:.2f} MiB</title></circle>")
    return out


def main():
    found = load(sys.argv[1])
    clouds = [(name, cloud) for name in DATA if len(cloud := list(points(found, name))) > 1]
    width, height = LEFT + len(clouds) * (WIDTH + GAP), TOP + HEIGHT + 44
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"><style>{STYLE}</style>')
    print(f'<rect class="back" width="{width}" height="{height}"/><text class="title" x="{LEFT}" y="22">Test P@1 against the head\'s MiB</text>')
    for i, (what, colour) in enumerate(KINDS.items()):
        at = LEFT + i * 118
        print(f'<circle class="{"dense" if what == "dense" else ""}" cx="{at}" cy="40" r="4" fill="{colour}"/><text x="{at + 9}" y="44">{what}</text>')
    for i, (name, cloud) in enumerate(clouds):
        print("\n".join(panel(name, cloud, LEFT + i * (WIDTH + GAP))))
    print("</svg>")


if __name__ == "__main__":
    main()

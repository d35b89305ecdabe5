#!/usr/bin/env python3
"""Draws bench/results/*.jsonl as an SVG: speed relative to OpenBLAS over the batch size, a panel for each shape of the head.

    bench/chart.py RESULTS.jsonl [MODE] > docs/bench.svg

Needs nothing but Python. The picture follows the reader's light or dark theme.
"""
import json
import sys
from html import escape

WIDTH, HEIGHT = 190, 130           # of a panel's plot
GAP_X, GAP_Y = 44, 58
LEFT, TOP = 52, 108
COLOURS = {"f32": "#888888", "bf16": "#3b7dd8", "f16": "#7b5cc9", "e4m3": "#d9541e", "e5m2": "#c99a1a", "i8r": "#2a9d6e",
           "e3m4": "#c2408f"}
STYLE = """
  text { font: 11px system-ui, sans-serif; fill: #222; }
  .title { font-size: 14px; font-weight: 600; }
  .quiet { fill: #666; }
  .panel { font-weight: 600; }
  .grid { stroke: #ddd; stroke-width: 1; }
  .one { stroke: #222; stroke-width: 1.2; }
  .peak { stroke: #666; stroke-width: 1.2; stroke-dasharray: 4 3; fill: none; }
  .back { fill: #fff; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6e6e6; } .quiet { fill: #a0a0a0; } .grid { stroke: #3a3f45; } .one { stroke: #e6e6e6; }
    .peak { stroke: #a0a0a0; } .back { fill: #16191d; }
  }
"""


def read(path, mode):
    with open(path, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    return [row for row in rows if row["mode"] == mode]


def short(labels):
    return f"{round(labels / 1000)}K" if labels >= 1000 else str(labels)


def steps(top):
    """Heights of the grid lines up to `top`."""
    step = 0.5 if top <= 3 else 1.0
    return [step * i for i in range(int(top / step) + 1)]


def peak_ratio(row):
    """The ratio of a step whose multiply-adds all ran at the machine's peak."""
    return row["baseline_ms"] * 1e-3 * row["peak_gflops"] * 1e9 / (6.0 * row["B"] * row["D"] * row["L"])


def ceiling(rows):
    most = max(max(row["ratio"], peak_ratio(row)) for row in rows)
    return 0.5 * -(-most // 0.5)


class Panel:
    """One plot: ratio over B; x is by position, as batch sizes double."""

    def __init__(self, left, top, batches, high):
        self.left, self.top, self.batches, self.high = left, top, batches, high

    def x(self, batch):
        return self.left + WIDTH * (self.batches.index(batch) + 0.5) / len(self.batches)

    def y(self, ratio):
        return self.top + HEIGHT * (1 - ratio / self.high)

    def frame(self, title):
        yield f'<text class="panel" x="{self.left}" y="{self.top - 8}">{escape(title)}</text>'
        for ratio in steps(self.high):
            y = self.y(ratio)
            kind = "one" if ratio == 1 else "grid"
            yield f'<line class="{kind}" x1="{self.left}" x2="{self.left + WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield f'<text class="quiet" x="{self.left - 6}" y="{y + 4:.1f}" text-anchor="end">{ratio:g}×</text>'
        for batch in self.batches:
            yield f'<text class="quiet" x="{self.x(batch):.1f}" y="{self.top + HEIGHT + 15}" text-anchor="middle">B {batch}</text>'

    def peak(self, rows):
        """The machine's peak, the median over the types of each B."""
        points = []
        for batch in self.batches:
            ratios = sorted(peak_ratio(row) for row in rows if row["B"] == batch)
            if ratios:
                points.append(f"{self.x(batch):.1f},{self.y(ratios[len(ratios) // 2]):.1f}")
        yield f'<polyline class="peak" points="{" ".join(points)}"/>'

    def line(self, name, rows):
        colour = COLOURS.get(name, "#888888")
        points = [(self.x(row["B"]), self.y(row["ratio"])) for row in sorted(rows, key=lambda row: row["B"])]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6" opacity="0.85"/>'
        for (x, y), row in zip(points, sorted(rows, key=lambda row: row["B"])):
            tip = f'{name}: {row["ratio"]:.2f}× ({row["median_ms"]:.1f} ms, OpenBLAS {row["baseline_ms"]:.1f} ms)'
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"><title>{escape(tip)}</title></circle>'


def legend(names, x, y):
    for name in names:
        yield f'<circle cx="{x}" cy="{y - 4}" r="4" fill="{COLOURS.get(name, "#888888")}"/>'
        yield f'<text x="{x + 8}" y="{y}">{escape(name)}</text>'
        x += 24 + 8 * len(name)
    yield f'<line class="peak" x1="{x}" x2="{x + 24}" y1="{y - 4}" y2="{y - 4}"/>'
    yield f'<text x="{x + 30}" y="{y}">multiply-adds of the dense step at fp32 peak</text>'


def draw(rows, mode):
    columns = sorted({row["L"] for row in rows})
    threads = sorted({row["threads"] for row in rows})
    lines = sorted({(row["threads"], row["D"]) for row in rows})
    batches = sorted({row["B"] for row in rows})
    names = [name for name in COLOURS if any(row["type"] == name for row in rows)]
    width = LEFT + len(columns) * (WIDTH + GAP_X)
    height = TOP + len(lines) * (HEIGHT + GAP_Y)
    first = rows[0]
    best = {count: max(row["peak_gflops"] for row in rows if row["threads"] == count) for count in threads}
    peak = ", ".join(f'{best[count]:.0f} GF/s with {count} thread{"s" * (count > 1)}' for count in threads)
    yield f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    yield f"<style>{STYLE}</style>"
    yield f'<rect class="back" width="{width}" height="{height}"/>'
    title = f"Training step of the head ({mode}) relative to an fp32 step with OpenBLAS; higher is faster"
    notes = [f'{first["cpu"]}, {first["isa"]}; OpenBLAS {first["blas"]} kernels = 1×; {first["date"][:10]}, commit {first["commit"]}',
             f"fp32 peak {peak}"]
    kept = [row["density"] for row in rows if "density" in row]
    if kept:
        notes[1] += f"; {100 * min(kept):.2g} to {100 * max(kept):.2g} % of the entries kept"
    yield f'<text class="title" x="16" y="26">{escape(title)}</text>'
    for i, note in enumerate(notes):
        yield f'<text class="quiet" x="16" y="{44 + 16 * i}">{escape(note)}</text>'
    yield from legend(names, 22, 80)
    for i, (count, dim) in enumerate(lines):
        high = ceiling([row for row in rows if row["threads"] == count])
        for j, labels in enumerate(columns):
            of_panel = [row for row in rows if (row["threads"], row["D"], row["L"]) == (count, dim, labels)]
            if not of_panel:
                continue
            panel = Panel(LEFT + j * (WIDTH + GAP_X), TOP + i * (HEIGHT + GAP_Y) + 8, batches, high)
            yield from panel.frame(f'D {dim}, L {short(labels)}, {count} thread{"s" * (count > 1)}')
            yield from panel.peak(of_panel)
            for name in names:
                of_line = [row for row in of_panel if row["type"] == name]
                if of_line:
                    yield from panel.line(name, of_line)
    yield "</svg>"


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    mode = sys.argv[2] if len(sys.argv) == 3 else "dense"
    rows = read(sys.argv[1], mode)
    if not rows:
        sys.exit(f"{sys.argv[1]}: no line with mode {mode}")
    print("\n".join(draw(rows, mode)))


if __name__ == "__main__":
    main()

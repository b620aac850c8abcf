# SPDX-License-Identifier: MIT
"""A picture of a run: horizontal bars, a panel for each workload's case, as SVG."""

from __future__ import annotations

from html import escape

from .report import heads, number, title
from .results import Results, Row

WIDTH = 900
NAME = 190  # where the bars begin
BAR = 18
STEP = 24
TEXT = 130  # room for the number beside the longest bar
INK, OURS, OTHERS, SPREAD = "#222", "#1a7f37", "#9aa7b4", "#444"


def svg(results: Results) -> str:
    """The picture."""
    y, parts = 20, []
    for line in heads(results)[:1]:
        parts.append(_text(10, y, line, size=11))
        y += 24
    for (workload, case), rows in results.groups().items():
        drawn = [row for row in rows if row.value]
        if workload == "floor" or not drawn:
            continue
        parts.append(_text(10, y, title(workload, case), weight="bold"))
        direction = "more is better" if drawn[0].more else "less is better"
        parts.append(_text(WIDTH - 10, y, f"{drawn[0].unit}, {direction}", size=11, anchor="end"))
        y += 10
        longest = max(max(row.values()) for row in drawn)
        for row in drawn:
            parts.append(_bar(results, row, y, (WIDTH - NAME - TEXT) / longest))
            y += STEP
        y += 24
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" '
        f'font-family="sans-serif" fill="{INK}">\n<rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _bar(results: Results, row: Row, y: int, scale: float) -> str:
    values, middle = row.values(), y + BAR / 2
    assert row.value is not None
    length = max(1.0, row.value * scale)
    ratio = results.to_best(row)
    label = number(row.value, row.unit) + (f"  ({ratio:.2f} of the best rival)" if row.ours and ratio else "")
    low, high = NAME + min(values) * scale, NAME + max(values) * scale
    return "\n".join(
        [
            _text(NAME - 8, middle + 4, row.rival, size=12, anchor="end"),
            f'<rect x="{NAME}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{OURS if row.ours else OTHERS}"/>',
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}" stroke="{SPREAD}"/>',
            _text(max(NAME + length, high) + 6, middle + 4, label, size=12),
        ]
    )


def _text(x: float, y: float, text: str, *, size: int = 13, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}">'
        f"{escape(text)}</text>"
    )

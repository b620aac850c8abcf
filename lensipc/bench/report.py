# SPDX-License-Identifier: MIT
"""The table of a run, for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .results import Results, Row
from .workloads import WORKLOADS

if TYPE_CHECKING:
    from rich.table import Table

HEADINGS = (
    "rival",
    "median",
    "range",
    "p99",
    "p99.9",
    "CPU main",
    "CPU renderer",
    "lost",
    "to best rival",
    "to floor",
    "",
)
TITLES = {(work.name, case.name): work for work in WORKLOADS for case in work.cases}


def number(value: float | None, unit: str = "") -> str:
    """A figure with as many digits as say something; of a rate, thousands and millions."""
    if value is None:
        return ""
    if unit.endswith("CPU"):
        return f"{value:.1f}"
    if unit.endswith("/s"):
        for size, scale, letter in ((1e6, 1e6, "M"), (1e4, 1e3, "k")):
            if value >= size:
                return f"{value / scale:.3g} {letter}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def title(workload: str, case: str) -> str:
    """A group's heading."""
    work = TITLES.get((workload, case))
    name = f"{workload}, {case}" if case else workload
    return f"{name}: {work.title}" if work else name


def cells(results: Results, row: Row) -> list[str]:
    """A row's cells."""
    values = row.values()
    best, floor = results.to_best(row), results.to_floor(row)
    latency = row.unit == "µs"
    note = row.note
    if row.failures:
        note = f"FAILED: {row.failures[0]}" if not values else f"{len(row.failures)} failed: {row.failures[0]}"
    elif row.workload == "floor" or row.figure == "attach_ms":
        others = {key: value for each in row.rounds[:1] for key, value in each.items() if key not in _SHOWN}
        note = "; ".join(f"{key.replace('_', ' ')} {number(value)}" for key, value in others.items())
    return [
        row.rival if row.workload != "floor" else row.case,
        f"{number(row.value, row.unit)} {row.unit}" if row.value is not None else "",
        f"{number(min(values), row.unit)} - {number(max(values), row.unit)}" if len(values) > 1 else "",
        number(row.median("p99_us")) if latency else "",
        number(row.median("p999_us")) if latency else "",
        *_cpu(row),
        str(row.lost) if row.rounds and row.workload != "floor" else "",
        f"{best:.2f}" if best and row.workload != "floor" else "",
        f"{floor:.2f}" if floor and row.workload != "floor" else "",
        note,
    ]


# Figures that have a column of their own, or need none.
_SHOWN = {
    "per_second",
    "p50_us",
    "p99_us",
    "p999_us",
    "lost",
    "calls",
    "cpu_main_us",
    "cpu_renderer_us",
    "attach_ms",
} | {"gib_per_second"}


def _cpu(row: Row) -> Iterator[str]:
    for side in ("main", "renderer"):
        if row.workload == "idle":
            value = row.median(f"idle_{side}_percent")
            yield "" if value is None else f"{value:.1f} %"
        elif row.workload == "floor" or (value := row.median(f"cpu_{side}_us")) is None:
            yield ""
        else:
            yield f"{number(value)} µs"


def heads(results: Results) -> list[str]:
    """The lines above the table."""
    about, machine = results.about, results.about["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = [
        f"{about['date']}, lensipc {about['lensipc']}, Python {machine['python']}, Linux {machine['kernel']}",
        f"{machine['cores']} cores of {machine['processor']}, load {machine['load']:g} when it began",
        f"medians of {about['rounds']} rounds, each with {about['share']:.0%} of the messages; {versions}",
    ]
    if results.left_out:
        lines.append("left out: " + "; ".join(f"{name} ({why})" for name, why in sorted(results.left_out.items())))
    if about.get("interrupted"):
        lines.append("interrupted: this is what there is so far")
    return lines


def tables(results: Results) -> Iterator[Table]:
    """A table for each workload's case; one for all floors."""
    from rich import box
    from rich.table import Table

    for heading, rows in _groups(results):
        table = Table(title=heading, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
        shown = [cells(results, row) for row in rows]
        used = [index for index in range(len(HEADINGS)) if any(row[index] for row in shown)]
        for index in used:
            table.add_column(HEADINGS[index], justify="left" if index in (0, 10) else "right", no_wrap=index < 10)
        for row, each in zip(rows, shown, strict=True):
            style = "red" if row.failures or row.lost else "bold green" if row.ours else ""
            table.add_row(*(each[index] for index in used), style=style)
        yield table


def markdown(results: Results) -> str:
    """All of it as Markdown."""
    parts = ["\n".join(f"{line}  " for line in heads(results))]
    for heading, rows in _groups(results):
        shown = [cells(results, row) for row in rows]
        used = [index for index in range(len(HEADINGS)) if any(row[index] for row in shown)]
        lines = [
            "| " + " | ".join(HEADINGS[index] for index in used) + " |",
            "| " + " | ".join("---" if index in (0, 10) else "---:" for index in used) + " |",
        ]
        for row, each in zip(rows, shown, strict=True):
            marks = [f"**{each[index]}**" if row.ours and index < 2 else each[index] for index in used]
            lines.append("| " + " | ".join(marks) + " |")
        parts.append(f"**{heading}**\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _groups(results: Results) -> Iterator[tuple[str, list[Row]]]:
    floors = []
    for (workload, case), rows in results.groups().items():
        if workload == "floor":
            floors += rows
        elif rows:
            yield title(workload, case), rows
    if floors:
        yield "floor: what bounds the others", floors

# SPDX-License-Identifier: MIT
"""What `lensipc bench` does with its options."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import report, runner
from .plot import svg
from .results import Results
from .runner import Effort, Place


def measured(only: list[str], rivals: list[str], effort: Effort) -> Results:
    """Run what is wanted, with progress on the error output."""
    groups, left_out = runner.places(only, rivals)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        shown = bar.add_task("begins")
        told = [""]

        def progress(place: Place, number: int, done: int, total: int) -> None:
            name = f"{place.workload.name} {place.case.name}".strip()
            bar.update(shown, description=f"{name}, {place.entry.rival}, round {number}", completed=done, total=total)
            if not console.is_terminal and name != told[0]:
                told[0] = name
                console.print(f"[{done}/{total}] {name}", markup=False, highlight=False)

        return runner.run(groups, left_out, effort, progress)


def loaded(path: Path) -> Results:
    """A run that was written by `--json`."""
    return Results.from_json(json.loads(path.read_text(encoding="utf-8")))


def show(results: Results) -> None:
    """Print the tables."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 160)
    for line in report.heads(results):
        console.print(line, markup=False, soft_wrap=True)
    for table in report.tables(results):
        console.print(table)


def write(results: Results, json_file: Path | None, plot_file: Path | None, markdown_file: Path | None) -> None:
    """Write the files that are wanted."""
    if json_file is not None:
        json_file.write_text(json.dumps(results.as_json(), indent=1) + "\n", encoding="utf-8")
    if plot_file is not None:
        plot_file.write_text(svg(results), encoding="utf-8")
    if markdown_file is not None:
        markdown_file.write_text(report.markdown(results), encoding="utf-8")

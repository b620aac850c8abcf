# SPDX-License-Identifier: MIT
"""What a renderer shows of itself: a table that is painted over and over, a picture of it, or lines of text."""

from __future__ import annotations

import io
import os
import re
import sys
import time
from collections import deque
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .catalog import Item

if TYPE_CHECKING:
    from .window import Window

# Between two paintings, and between two lines (seconds).
PAINTING = 0.2
SPEAKING = 1.0
# Lines of the screen that are no process: frames, headings, details, news. And how many processes are enough.
AROUND = 15
NEWS = 4
ROWS = 16
# Of a picture: the columns of its terminal, and the processes that it shows.
COLUMNS = 100
SHOWN = 10


class Screen:
    """A terminal: everything has its place and keeps it."""

    def __init__(self, frame_id: int, title: str, began: float) -> None:
        self._title = f"{title}, as renderer {frame_id} holds it"
        self._began = began
        self._news: deque[str] = deque(maxlen=NEWS)
        self._painted: dict[int, Item] = {}
        self._next = 0.0
        self._rows = ROWS
        self._begin()

    def _begin(self) -> None:
        console = Console()
        self._rows = max(1, min(ROWS, console.height - AROUND))
        # Painted by this process's own loop, when no invoke is on its way: no thread, no wrong round trips.
        self._live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._live.start()

    def news(self, text: str) -> None:
        """Something has happened."""
        self._news.append(f"{time.monotonic() - self._began:5.1f} s  {text}")

    def update(self, window: Window, last: bool = False) -> None:
        """Paint, if it is time to."""
        if last or time.monotonic() >= self._next:
            self._live.update(self._painting(window), refresh=True)
            self._next = time.monotonic() + PAINTING

    def close(self) -> None:
        """Give the terminal back, as it is now."""
        self._live.stop()

    def _painting(self, window: Window) -> Group:
        return Group(self._catalog(window), self._details(window), self._happened())

    def _catalog(self, window: Window) -> Panel:
        table = Table(box=None, expand=True, pad_edge=False, header_style="bold")
        table.add_column("pid", justify="right", width=8)
        table.add_column("name", ratio=1, no_wrap=True, overflow="ellipsis")
        table.add_column("CPU", justify="right", width=6)
        table.add_column("", width=10)
        table.add_column("memory", justify="right", width=12)
        items = window.ipc.catalog.largest()[: self._rows]
        for item in items:
            changed = self._painted.get(item["pid"]) is not item
            role = window.roles.get(item["pid"])
            table.add_row(
                str(item["pid"]),
                Text(item["name"] if role is None else f"{item['name']}  ({role})"),
                f"{item['cpu']} %",
                Text("▪" * min(10, (item["cpu"] + 9) // 10), style="green"),
                f"{item['memory']:.1f} MiB",
                style=("reverse " if item["pid"] == window.chosen else "") + ("bold" if changed else "dim"),
            )
        for _ in range(self._rows - len(items)):
            table.add_row()
        self._painted = {item["pid"]: item for item in items}
        heard = f"{len(window.ipc.catalog.items)} processes, {window.ipc.heard:,} changes heard"
        return Panel(table, title=_bold(self._title), subtitle=heard, box=box.ROUNDED, border_style="cyan")

    def _details(self, window: Window) -> Panel:
        details = window.details.get(window.chosen or 0)
        first, second = "", ""
        if details is not None:
            since = time.strftime("%H:%M:%S", time.localtime(details["started"]))
            first = details["command"] or "(no command line)"
            second = f"of {details['user']}, a child of pid {details['parent']}, since {since}"
        answered = f"{len(window.round_trips):,} invokes answered"
        if window.round_trips:
            answered += f", the last in {window.round_trips[-1]:,.0f} µs"
        text = Text("\n").join(Text(line, no_wrap=True, overflow="ellipsis") for line in (first, second))
        text.no_wrap, text.overflow = True, "ellipsis"
        title = f'invoke("catalog.describe", {window.chosen})'
        return Panel(text, title=_bold(title), subtitle=answered, box=box.ROUNDED, border_style="green")

    def _happened(self) -> Panel:
        lines = [*self._news, *[""] * (NEWS - len(self._news))]
        text = Text("\n".join(lines), no_wrap=True, overflow="ellipsis")
        return Panel(text, title=_bold("what happened"), box=box.ROUNDED, border_style="yellow")


class Picture(Screen):
    """The last painting, as SVG. It asks nobody for a font."""

    svg: str = ""

    def _begin(self) -> None:
        self._rows = SHOWN
        self._console = Console(
            record=True, file=io.StringIO(), force_terminal=True, color_system="truecolor", width=COLUMNS
        )

    def update(self, window: Window, last: bool = False) -> None:
        """Paint, if it is the last time."""
        if last:
            self._console.print(self._painting(window))
            svg = self._console.export_svg(title="lensipc demo", clear=False)
            self.svg = re.sub(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", "", svg, flags=re.DOTALL)
        elif time.monotonic() >= self._next:
            self._painted = {item["pid"]: item for item in window.ipc.catalog.largest()[: self._rows]}
            self._next = time.monotonic() + PAINTING

    def close(self) -> None:
        """Nothing to give back."""


class Lines:
    """No terminal: a line of text now and then."""

    def __init__(self, frame_id: int, _title: str, began: float) -> None:
        self._who = f"renderer {frame_id}"
        self._said = ""
        self._began = began
        self._next = 0.0

    def news(self, text: str) -> None:
        """Something has happened."""
        try:
            print(f"{time.monotonic() - self._began:5.1f} s  {text}", flush=True)
        except BrokenPipeError:  # whoever read it has gone; nor may what is still buffered say so at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def update(self, window: Window, last: bool = False) -> None:
        """Say how things are, if it is time to."""
        if not window.round_trips or not (last or time.monotonic() >= self._next):
            return
        self._next = time.monotonic() + SPEAKING
        item = window.ipc.catalog.items.get(window.chosen or 0)
        said = (
            f"{self._who} holds {len(window.ipc.catalog.items)} processes after {window.ipc.heard:,} changes; "
            f"{len(window.round_trips):,} invokes answered, the last in {window.round_trips[-1]:,.0f} µs "
            f"(pid {window.chosen}, {item['name'] if item else 'which has ended'})"
        )
        if said != self._said:
            self.news(said)
            self._said = said

    def close(self) -> None:
        """Nothing to give back."""


def _bold(text: str) -> Text:
    return Text(text, style="bold", no_wrap=True, overflow="ellipsis")

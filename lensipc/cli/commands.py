# SPDX-License-Identifier: MIT
"""What the command `lensipc` can do."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from .. import __version__

app: Final = typer.Typer(
    rich_markup_mode=None, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"lensipc {__version__}")
        raise typer.Exit


@app.callback()
def lensipc(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Extension IPC: events and requests between processes over shared-memory rings."""


@app.command()
def demo(
    renderers: Annotated[int, typer.Option(min=2, max=100, help="How many to start; the last is killed half-way.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.5, help="How long it goes on once they are there.")] = 8.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.")] = False,
    svg: Annotated[Path | None, typer.Option(help="Write a picture of the last screen there.")] = None,
) -> None:
    """Watch an example extension sync this machine's processes to its renderers.

    Exits with 0 if all went as told: what was broadcast was heard, what was asked was answered, and one renderer's
    death stopped none of the others.
    """
    from ..demo import host

    console = Console(highlight=False)
    on_terminal = console.is_terminal and not console.is_dumb_terminal
    if not as_json:
        print(f"main and {renderers} renderers, for {seconds:g} seconds", flush=True)
    show: host.How = "picture" if svg else "nothing" if as_json else "screen" if on_terminal else "lines"
    summary = asyncio.run(host.run(renderers, seconds, show))
    if svg is not None:
        svg.write_text(summary.picture, encoding="utf-8")
    if as_json:
        print(json.dumps(summary.as_json(), indent=2))
    else:
        for label, line in summary.as_lines():
            console.print(Text.assemble((f"{label:10}", "bold"), line), soft_wrap=True)
        if not summary.amiss():
            console.print("All went as told.", style="green")
    raise typer.Exit(1 if summary.amiss() else 0)


@app.command()
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="One round, fewer messages: some two minutes.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="A workload; may be given again. [default: all]")] = None,
    rival: Annotated[list[str] | None, typer.Option(help="A rival; may be given again. [default: all]")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="How often each case is measured. [default: 3]")] = None,
    share: Annotated[float | None, typer.Option(min=0.0, max=10.0, hidden=True)] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures there.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the medians there, as SVG.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the table there, as Markdown.")] = None,
    load: Annotated[Path | None, typer.Option(help="Measure nothing: show what --json wrote.")] = None,
) -> None:
    """Measure lensipc beside what one would use instead, on this machine, now.

    Each rival that is installed does the same work in fresh processes of its own; `pip install 'lensipc[bench]'`
    installs them. Compare the ratios: absolute times on a small or busy machine vary. Exits with 1 if one failed.
    """
    from ..bench import command
    from ..bench.rivals import ENTRIES
    from ..bench.runner import FULL, QUICK, Effort
    from ..bench.workloads import NAMES

    for name in only or ():
        if name not in NAMES:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(NAMES)}", param_hint="--only")
    rivals = dict.fromkeys(entry.rival for entry in ENTRIES)
    for name in rival or ():
        if name not in rivals:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(rivals)}", param_hint="--rival")
    usual = QUICK if quick else FULL
    if load is not None:
        results = command.loaded(load)
    else:
        results = command.measured(only or [], rival or [], Effort(rounds or usual.rounds, share or usual.share))
    command.show(results)
    command.write(results, json_file, plot, markdown)
    raise typer.Exit(1 if results.failed else 0)


@app.command()
def renderer(
    path: Annotated[Path, typer.Argument(help="MainProcess's path.")],
    name: Annotated[str, typer.Option(help="What main's log calls it.")] = "",
    token_file: Annotated[Path | None, typer.Option(help="A file whose first line is MainProcess's token.")] = None,
    user: Annotated[int | None, typer.Option(help="The id of the user that main runs as. [default: this one]")] = None,
) -> None:
    """Run one renderer by hand, in this terminal: for breakpoint() and debuggers.

    It connects to the main process that listens at PATH, and imports extensions from the working directory, too. Its
    log is shown here. A host whose parts may wait in a debugger says so: MainProcess(path, activation_timeout=None).
    """
    from . import renderer as by_hand

    token = None
    if token_file is not None:
        try:
            token = token_file.read_text(encoding="utf-8").partition("\n")[0]
        except (OSError, UnicodeDecodeError) as error:
            raise typer.BadParameter(str(error), param_hint="--token-file") from None
    raise typer.Exit(by_hand.run(path, name, token, user))

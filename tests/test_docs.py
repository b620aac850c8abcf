"""The documents' code: every block of every document runs, as a reader would run it.

A page is run like a notebook in a folder of its own. A Python block whose first line is `# name.py` is that file; any
other is a cell, which may await. In a `console` block each line that begins with `$` is a command, and what stands
below it is what it prints; `...` stands for anything. TOML has to be TOML. A block that cannot run here has a line
above it that says so to the reader: "*Not run by the tests: why.*"
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import lensipc
import lensipc.testing

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "bench" / "README.md"])
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
NOT_RUN = "*Not run by the tests: "
RUN = {"python", "console", "toml"}


class Block(NamedTuple):
    """A block of code in a document."""

    language: str
    text: str
    line: int
    why_not: str


def blocks(page: Path) -> list[Block]:
    """All of a page, in their order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        before = text[: match.start()].rstrip().rpartition("\n")[2].strip()
        why_not = before.removeprefix(NOT_RUN).rstrip("*.") if before.startswith(NOT_RUN) else ""
        lines = match["text"].splitlines(keepends=True)
        code = "".join(line.removeprefix(match["indent"]) for line in lines)
        found.append(Block(match["language"], code, text.count("\n", 0, match.start()) + 1, why_not))
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a page is run, and imported from."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def run_cell(block: Block, page: Path, runner: asyncio.Runner, names: dict[str, Any]) -> None:
    """Run a Python block as a notebook does: what one cell has bound, the next one has."""
    code = compile("\n" * block.line + block.text, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, names)
    if inspect.iscoroutine(result):
        runner.run(result)


def run_console(block: Block, background: list[subprocess.Popen[bytes]]) -> None:
    """Run the commands of a console block, and hold what each prints against what stands below it."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        words = shlex.split(command)
        assert words[0] in ("python", "pytest", "lensipc"), f"{command!r}: only these are run"
        start = [sys.executable] if words[0] == "python" else [sys.executable, "-m", words[0]]
        if words[0] == "pytest":
            start += ["-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
        if words[-1] == "&":
            background.append(subprocess.Popen([*start, *words[1:-1]]))
            continue
        output = subprocess.run(
            [*start, *words[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False
        ).stdout
        pattern = re.escape(expected.strip()).replace(re.escape("..."), ".*")
        assert re.fullmatch(pattern, output.strip(), re.DOTALL), f"{command!r} prints\n{output}"


WITH_CODE = [page for page in PAGES if any(block.language in RUN for block in blocks(page))]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_a_page_runs(page: Path, folder: Path) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    background: list[subprocess.Popen[bytes]] = []
    unused: set[str] = set()
    try:
        with asyncio.Runner() as runner:
            for block in blocks(page):
                if block.why_not or block.language not in RUN:
                    continue
                if block.language == "toml":
                    tomllib.loads(block.text)
                elif block.language == "console":
                    run_console(block, background)
                    unused -= set(block.text.split())
                elif match := re.match(r"# ([\w/]+\.py)\n", block.text):
                    compile(block.text, match[1], "exec")
                    file = folder / match[1]
                    file.parent.mkdir(exist_ok=True)
                    file.write_text("\n" * block.line + block.text)
                    unused.add(match[1])
                else:
                    run_cell(block, page, runner, names)
        for file_name in unused - {f"{name}.py" for name in sys.modules}:  # what no other block imports or runs
            importlib.import_module(file_name.removesuffix(".py"))
    finally:
        for process in background:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)


def test_a_block_that_is_not_run_says_why() -> None:
    silent = [f"{page.name}:{block.line}" for page in PAGES for block in blocks(page) if block.language == ""]
    reasons = [block.why_not for page in PAGES for block in blocks(page) if block.why_not]
    assert all(len(reason) > 10 for reason in reasons)
    assert len(reasons) < 15, "most of what the documents show is run"
    assert len(silent) < 10, "a block without a language is no code"


COMMANDS = re.compile(r"^(?:\$ )?(make|lensipc) ([\w-]+)", re.MULTILINE)


def test_each_command_that_a_document_names_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    known = {"make": targets, "lensipc": {"demo", "bench", "renderer", "--version"}}
    named = {
        found
        for page in PAGES
        for block in blocks(page)
        if block.language == "sh"
        for found in COMMANDS.findall(block.text)
    }
    assert {(command, what) for command, what in named if what not in known[command]} == set()
    assert len(named) > 5


REFERENCE = "\n".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))


@pytest.mark.parametrize("name", [*lensipc.__all__, *(f"testing.{name}" for name in lensipc.testing.__all__)])
def test_the_reference_has_every_public_name(name: str) -> None:
    places = {"Ipc": ["lensipc.ipc.Main", "lensipc.ipc.Renderer"], "Types": ["lensipc.events.IpcEvent"]}
    for place in places.get(name, [f"lensipc.{name}"]):
        assert re.search(rf"^::: {re.escape(place)}$", REFERENCE, re.MULTILINE)


def test_each_page_has_its_place_in_the_site() -> None:
    listed = set(re.findall(r"([\w/-]+\.md)", (ROOT / "mkdocs.yml").read_text()))
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if not page.startswith("decisions/")} - listed == set()

# SPDX-License-Identifier: MIT
"""What mkdocs calls for each page: it takes in documents that stand elsewhere, and mends links that lead out of docs/.

`<!-- include: SECURITY.md -->` is replaced by that file. A link to a file that a page includes becomes one to the page;
a link to any other file of the checkout becomes its name, because the site does not have it. `<!-- code: FILE -->` is
replaced by that file as a block of code, and `<!-- docstring: FILE -->` by what its docstring draws. The lines that
name a guarantee's tests become a list.
"""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r"<!-- include: (\S+) -->")
CODE = re.compile(r"<!-- code: (\S+) -->")
DOCSTRING = re.compile(r"<!-- docstring: (\S+) -->")
TEST = re.compile(r"^Test: (\S+)$", re.MULTILINE)
LINK = re.compile(r"\[([^\]\n]+)\]\((?!\w+://|#)([^)#\s]+)(#[^)\s]*)?\)")
# Which page includes which file.
PAGES = {
    match[1]: page.relative_to(ROOT).as_posix()
    for page in sorted((ROOT / "docs").rglob("*.md"))
    for match in INCLUDE.finditer(page.read_text(encoding="utf-8"))
}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """A page's text as the site shows it."""
    markdown = CODE.sub(lambda match: _block(match[1]), markdown)
    markdown = DOCSTRING.sub(lambda match: _drawing(match[1]), markdown)
    markdown = TEST.sub(r"* `\1`", markdown)
    here = f"docs/{page.file.src_uri}"
    included = INCLUDE.search(markdown)
    if included is None:
        return _mended(markdown, here, here)
    text = (ROOT / included[1]).read_text(encoding="utf-8")
    return INCLUDE.sub(lambda _match: _mended(text, included[1], here), markdown)


def _block(name: str) -> str:
    return f'```python title="{name}"\n{(ROOT / name).read_text(encoding="utf-8")}```'


def _drawing(name: str) -> str:
    docstring = ast.get_docstring(ast.parse((ROOT / name).read_text(encoding="utf-8"))) or ""
    text, _, drawing = docstring.partition("\n\n")
    return f"{text}\n\n```text\n{drawing}\n```"


def _mended(text: str, source: str, here: str) -> str:
    def mended(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[2]))
        target = PAGES.get(target, target)
        if not target.startswith("docs/"):
            return match[1]
        return f"[{match[1]}]({posixpath.relpath(target, posixpath.dirname(here))}{match[3] or ''})"

    return LINK.sub(mended, text)

# SPDX-License-Identifier: MIT
"""Write the messages that fuzz_scan begins from: `python tests/fuzz/corpus.py FOLDER`."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from lensipc import clone

folder = Path(sys.argv[1])
folder.mkdir(exist_ok=True)
for name, value in runpy.run_path(str(Path(__file__).resolve().parents[1] / "messages.py"))["HONEST"].items():
    body = clone.encode(value)
    if body[:1] == b"\x80" and len(body) < 4000:
        (folder / name.replace(" ", "_")).write_bytes(b"\x20" + body)

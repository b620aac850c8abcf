# SPDX-License-Identifier: MIT
"""The command `lensipc`. What it can do is in commands.py, which needs the extra `cli`."""

from __future__ import annotations

import sys
from importlib import import_module

# What the extra installs. `import lensipc` itself needs none of it.
EXTRA = ("typer", "rich", "psutil")


def main() -> None:
    """Run the command; where the extra is not installed, say so."""
    try:
        for name in EXTRA:
            import_module(name)
    except ModuleNotFoundError as error:
        sys.stderr.write(f"lensipc: the command line needs {error.name}: pip install 'lensipc[cli]'\n")
        raise SystemExit(2) from None
    from .commands import app

    app(prog_name="lensipc")

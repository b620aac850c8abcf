# SPDX-License-Identifier: MIT
"""The command `lensipc`. What it can do is in commands.py, which needs the extra `cli`; its version it says without."""

from __future__ import annotations

import sys
from importlib import import_module

from .. import __version__

# What the extra installs. `import lensipc` itself needs none of it.
EXTRA = ("typer", "rich", "psutil")


def main() -> None:
    """Run the command; where it needs the extra and that is not installed, say so."""
    if sys.argv[1:] == ["--version"]:
        print(f"lensipc {__version__}")
        return
    try:
        for name in EXTRA:
            import_module(name)
    except ModuleNotFoundError as error:
        sys.stderr.write(f"lensipc: the command line needs {error.name}: pip install 'lensipc[cli]'\n")
        raise SystemExit(2) from None
    from .commands import app

    app(prog_name="lensipc")

# SPDX-License-Identifier: MIT
"""`python -m lensipc`."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    main()

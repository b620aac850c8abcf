# SPDX-License-Identifier: MIT
"""What PyInstaller has to know to freeze a program that uses lensipc. It finds this by an entry point."""

from __future__ import annotations


def hook_dirs() -> list[str]:
    """Where the hooks are: called by PyInstaller."""
    return list(__path__)

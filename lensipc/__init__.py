# SPDX-License-Identifier: MIT
"""Extension IPC over shared-memory rings."""

from __future__ import annotations

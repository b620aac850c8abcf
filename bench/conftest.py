# SPDX-License-Identifier: MIT
"""How much `pytest bench` measures."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lensipc")
    group.addoption("--rounds", type=int, default=3, help="How often each workload is measured (3).")
    group.addoption("--share", type=float, default=0.1, help="Of the messages of `lensipc bench` (0.1).")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "timeout: of pytest-timeout, which need not be installed here")

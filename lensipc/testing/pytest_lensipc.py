# SPDX-License-Identifier: MIT
"""The pytest plugin. Installed as the top-level module pytest_lensipc, which imports lensipc when a test needs it.

As a module of the package it would cost each run of pytest, wherever lensipc is installed, the import of lensipc.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lensipc.testing import Host


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--lensipc-in-process`."""
    parser.getgroup("lensipc").addoption(
        "--lensipc-in-process",
        action="store_true",
        help="renderers of lensipc_host run in this process, unless a test says otherwise; faults that need "
        "processes skip their tests",
    )


@pytest.fixture
def lensipc_host(request: pytest.FixtureRequest) -> Callable[..., Host]:
    """Makes a host for this test: `async with lensipc_host(MANIFEST) as host`. Its arguments are those of Host."""
    from lensipc.testing import Host

    in_process: bool = request.config.getoption("--lensipc-in-process")

    def make(*manifests: Any, **options: Any) -> Host:
        return Host(*manifests, **{"in_process": in_process, **options})

    return make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Any:
    """With --lensipc-in-process, a test that needs processes is skipped."""
    try:
        return (yield)
    except Exception as error:
        if item.config.getoption("--lensipc-in-process") and type(error).__name__ == "NeedsProcesses":
            pytest.skip(str(error))
        raise

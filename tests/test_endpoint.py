# SPDX-License-Identifier: MIT
"""Endpoints as the layers above use them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lensipc import endpoint
from lensipc.endpoint import Endpoint

Pair = tuple[Endpoint, Endpoint]


def open_endpoint(fd: int, side: int, **sizes: int) -> Endpoint:
    options = {"high_water": 1 << 20, "limit": 1 << 22, "quota": 1 << 26} | sizes
    return Endpoint(fd, side, endpoint.WAKEUP_SEMAPHORE, -1, **options)


@pytest.fixture
def pair() -> Iterator[Pair]:
    fd = endpoint.create_segment(endpoint.FORM_MEMFD, 1 << 16)
    both = open_endpoint(fd, endpoint.SIDE_MAIN), open_endpoint(fd, endpoint.SIDE_RENDERER)
    os.close(fd)
    yield both
    for side in both:
        side.close()


def test_a_message_arrives_with_all_that_goes_with_it(pair: Pair) -> None:
    main, renderer = pair
    assert main.send(1, 2, 3, 4, 5, b"body") == 0
    assert renderer.receive(10) == [(1, b"body", 2, 3, 4, 5)]
    assert renderer.receive(10) == []

# SPDX-License-Identifier: MIT
"""Arrays for rivals that carry bytes: pickles of protocol 5 with the array's memory apart, as their users do it."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

from .task import Task

# numpy's own generic types say no more here, and differ between its versions.
Array: TypeAlias = Any


def arrays(task: Task, count: int) -> Iterator[Array]:
    """What is sent: the same array so many times."""
    array = np.ones(task.size // 4, np.float32)
    for _ in range(count):
        yield array


def pack(array: Array) -> tuple[bytes, memoryview]:
    """A head, and the array's own memory."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(array, 5, buffer_callback=buffers.append)
    return head, buffers[0].raw()


def room(size: int) -> memoryview:
    """Fresh memory for a receiver, not cleared."""
    return np.empty(size, np.uint8).data


def unpack(head: bytes, memory: memoryview) -> Array:
    """The array over memory that the receiver owns."""
    return pickle.loads(head, buffers=[memory])

# SPDX-License-Identifier: MIT
"""Structured clone: what may cross from one process to another, as bytes and back.

    codec             a value to a message, and back
    constructors      what a message may call: the table that csrc/clone/reader.c holds every call against
    reducers          what is written for what is not a plain builtin
    stdlib_reducers   the same for the standard library's types
    ndarray           the same for numpy's
    diagnose          which part of a value cannot be cloned, and why
    transfer          emptying what was sent away
    loan              arrays that are written where others read them
    release           emptying what was received

docs/clone.md tells what arrives, what is lost and what raises. Knows nothing of rings, processes or channels.
"""

from __future__ import annotations

from .codec import (
    STANDARD,
    Limits,
    decode,
    decode_each,
    decode_owned,
    decode_view,
    encode,
    encode_parts,
    encode_small,
    register,
    weigh,
)
from .release import release
from .transfer import check_transfer, detach, lent

__all__ = [
    "STANDARD",
    "Limits",
    "check_transfer",
    "decode",
    "decode_each",
    "decode_owned",
    "decode_view",
    "detach",
    "encode",
    "encode_parts",
    "encode_small",
    "lent",
    "register",
    "release",
    "weigh",
]

# SPDX-License-Identifier: MIT
"""The structured clone as its users see it."""

from __future__ import annotations

import pytest

from lensipc import clone
from lensipc.errors import DataCloneError, DecodeError


def there_and_back(value: object) -> object:
    return clone.decode(clone.encode(value))


def test_plain_values_arrive_as_they_are() -> None:
    value = {"id": 17, "name": "initialize", "ok": True, "v": 3.14, "tags": ["a", "b"], 1: (None, {2}, b"x")}
    assert there_and_back(value) == value


def test_a_function_is_named_with_its_path() -> None:
    with pytest.raises(DataCloneError, match=r"^args\[0\]\['cfg'\]\['cb'\] is a function$"):
        clone.encode_parts(({"cfg": {"cb": lambda: None}},), "args")


def test_a_refused_pickle_says_at_which_byte_and_why() -> None:
    with pytest.raises(DecodeError, match=r"^byte 2: "):
        clone.decode(b"\x80\x05cos\nsystem\n.")

# SPDX-License-Identifier: MIT
"""What nothing of lensipc runs without. Importing this is an ImportError where that is missing, and says what it is."""

from __future__ import annotations

import sys

if sys.platform != "linux" or sys.maxsize < 2**32:
    bits = sys.maxsize.bit_length() + 1
    raise ImportError(f"lensipc runs on 64-bit Linux only, and this is {sys.platform}, {bits} bits")

try:
    import lensipc._core  # noqa: F401 - those who use it import it themselves
except ModuleNotFoundError as error:
    if error.name == "_cffi_backend":
        raise ImportError("lensipc needs cffi, which is not installed for this Python: pip install cffi") from None
    if error.name not in (None, "lensipc._core"):
        raise
    raise ImportError(
        "lensipc has no compiled part for this Python: pip install --force-reinstall lensipc; in a checkout, make"
    ) from None

# SPDX-License-Identifier: MIT
"""torch's tensors: an array, and the name of the dtype where numpy has none of that name."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch

from . import Type

BY_BITS: Final = {"bfloat16": (torch.bfloat16, torch.int16)}
"""Dtypes that numpy does not have, by their names, each with one of as many bits that it has."""

_NAMES: Final = {dtype: name for name, (dtype, _) in BY_BITS.items()}


def _encode(tensor: Any) -> Any:
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise TypeError("a sparse or quantized tensor does not cross: convert it first")
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    name = _NAMES.get(plain.dtype)
    return name, (plain if name is None else plain.view(BY_BITS[name][1])).numpy()


def _decode(told: Any) -> Any:
    name, array = told
    if type(array) is not np.ndarray or array.dtype.kind not in "biufc" or not array.dtype.isnative:
        raise ValueError("not the array of a tensor")
    tensor = torch.from_numpy(array)
    if name is None:
        return tensor
    dtype, bits = BY_BITS[name] if type(name) is str else (None, None)
    if tensor.dtype is not bits:
        raise ValueError("not the bits of that dtype")
    return tensor.view(dtype)


TYPES: Final[list[Type]] = [(torch.Tensor, "torch.Tensor", _encode, _decode)]

# SPDX-License-Identifier: MIT
"""The functions of csrc/python/module.c: the second module in the C core's shared object, where no finder looks for it.

This file loads it and gives it its place. Its types are in _fast.pyi.
"""

from __future__ import annotations

import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location

from . import _core

_loader = ExtensionFileLoader(__name__, _core.__file__)
_spec = spec_from_file_location(__name__, _core.__file__, loader=_loader)
assert _spec is not None
_module = module_from_spec(_spec)
_loader.exec_module(_module)
sys.modules[__name__] = _module

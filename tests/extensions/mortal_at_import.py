"""A part whose import ends the process, as one of broken native code does."""

from __future__ import annotations

import mortal

mortal.die("SIGSEGV")

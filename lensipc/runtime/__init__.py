# SPDX-License-Identifier: MIT
"""What main and renderers have in common: the protocol, the line between them, and how callbacks are called."""

# SPDX-License-Identifier: MIT
"""Bytes in, bytes out: one end of a segment, waiting for it, and the handshake by which two processes share one."""

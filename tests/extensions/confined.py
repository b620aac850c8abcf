"""Makes system calls of this process fail, as a sandbox does, or an older kernel."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

NUMBERS = {
    "pidfd_open": 434,
    "getsockopt": {"x86_64": 55, "aarch64": 209}.get(platform.machine(), -1),
    "timer_create": {"x86_64": 222, "aarch64": 107}.get(platform.machine(), -1),
}
LOAD, IF_EQUAL, RETURN = 0x20, 0x15, 0x06
REFUSED, ALLOWED = 0x00050000, 0x7FFF0000


def refuse(call: str, code: int, third: int | None = None) -> None:
    """Have a call fail with `code` from now on, in children too; `third`: only with that third argument."""
    same_third = [] if third is None else [(LOAD, 0, 0, 32), (IF_EQUAL, 0, 1, third)]
    same_call = [(LOAD, 0, 0, 0), (IF_EQUAL, 0, len(same_third) + 1, NUMBERS[call])]
    program = [*same_call, *same_third, (RETURN, 0, 0, REFUSED | code), (RETURN, 0, 0, ALLOWED)]
    instructions = b"".join(struct.pack("=HBBI", *each) for each in program)
    memory = ctypes.create_string_buffer(instructions)
    described = struct.pack("@HP", len(program), ctypes.addressof(memory))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(38, 1, 0, 0, 0) or prctl(22, 2, described):  # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

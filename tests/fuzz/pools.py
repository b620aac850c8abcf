# SPDX-License-Identifier: MIT
"""What values in messages are made of: numbers at the edges, texts that some constructor takes or nearly takes."""

from __future__ import annotations

import builtins

from fuzz import assembler as asm

NEAR = [0, 1, 2, 3, 4, 7, 8, 9, 12, 16, 31, 32, 59, 60, 64, 100, 127, 128, 255, 256, 999, 1000, 1024, 4096, 9999, 65535]
FAR = [
    1 << 16, (1 << 31) - 8, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 33) + 1, 1 << 40, (1 << 61) - 1,
    (1 << 62), (1 << 63) - 8, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, 1 << 70, (1 << 128) - 1, 1 << 128,
    1 << 1000, 1 << 4096, 1 << 5000, 999_999_999, 1_000_000_000, 86_399_999_999, 86_400_000_000, 3_652_059,
]  # fmt: skip
EVERY_INT = [sign * value for value in NEAR + FAR for sign in (1, -1)]
INTS = [asm.number(value) for value in EVERY_INT]
EDGES = [asm.number((1 << 31) - back) for back in (0, 1, 2, 4, 8, 9, 16, 24)] + INTS[:8]
ODD_INTS = [b"\x8a\x00", b"\x8a\x02\x01\x00", b"\x8a\x09" + bytes(8) + b"\x01", b"\x8b\x00\x00\x00\x00", b"J\x01\0\0\0"]
FLOATS = [
    asm.real(value)
    for value in (0.0, -0.0, 1.0, -1.5, 0.1, 1e308, -1e308, 5e-324, float("inf"), -float("inf"), float("nan"), 2.0**63)
]
NAMES = ["a", "b", "x", "name", "", "\ud800", "a\udfff", "\0", "é", "\U0001f600", "a" * 63, "b" * 255, "é" * 300, "%s"]
STRINGS = [asm.text(value) for value in NAMES] + [b"\x8c\x02\xff\xfe", b"\x8c\x01\x80"]
BYTES = [asm.raw(value) for value in (b"", b"\x00", b"\x01", b"\x02", bytes(8), b"\xff" * 8, bytes(16), b"x" * 300)]
ATOMS = [asm.NONE, asm.TRUE, asm.FALSE, asm.NOTHING, asm.LIST, asm.DICT, asm.SET, asm.MARK + asm.FROZENSET]
EQUALS = [asm.number(1), asm.real(1.0), asm.TRUE, asm.long(1), asm.number(0), asm.real(-0.0), asm.FALSE]

SIMPLE = [f"{order}{kind}" for order in "<>" for kind in ("i2", "i4", "i8", "u8", "f2", "f4", "f8", "c8", "c16", "U3")]
SIMPLE += ["|b1", "|b1", "|i1", "|u1", "|S5", "|V4", "<M8[s]", "<m8[D]", "<M8", "<m8[25us]", "<f16", "<c32", ">M8[ns]"]
BAD_DTYPES = [
    "|S0", "<U0", "|V0", "<M8[0s]", "<M8[-1s]", "<m8[999999999Y]", "<M8[2147483648ns]", "|O", "O", "<O8",
    "|b8", "<i3", "<f1", "|S2147483647", "<U536870912", "|V2147483648", "<S99999999999", "", "<", "i4,i4",
    "(2,)i4", "<i8\n", "object", "<U3\ud800", "|b1[s]", "=i4", "<M8[generic]", "<m8[]", "<M8[B]", "<i0", "<c8[s]",
]  # fmt: skip

TEXTS: dict[str, list[str]] = {
    "decimal": ["0", "-0", "1.5", "1", "1E5", "1E+999999999", "1E-999999999", "1E999999999999999999999", "NaN",
                "sNaN", "-Infinity", "NaN123", "9" * 4096, "9" * 4097, "1e5", " 1", "1_0", "\u0661",
                "0E+1000000", "-sNaN1"],
    "zone": ["UTC", "Europe/Berlin", "America/New_York", "Etc/GMT+5", "posixrules", "../../etc/passwd", "/etc/passwd",
             "Europe", "Europe/", "a" * 65, "zone.tab", "Nowhere/At_All", "UTC\0", "right/UTC", "localtime", "."],
    "pattern": ["a", "a[b-d]+", "(a*)*b", "(?i)[\u0100-\uffff]", "[a-z]" * 20, "(" * 200 + ")" * 200, "(",
                "(?P<n>a)(?P=n)", "a{1,65535}", "((((a{99}){99}){99}){99})", "(?<=a)b", "\\",
                "[\u0100-\U0010ffff]" * 4, "(?L)a", "x*" * 2000, "(?:a|" * 150 + "b" + ")" * 150, "\ud800",
                "a" * 8193, "(?a)\\w", "[^\\W\\d_]" * 30],
    "path": ["", "/", "//", ".", "..", "a/b/../c", "C:\\x", "\\\\host\\share\\x", "\0", "a" * 5000, "/" * 3000,
             "\ud800", "nul"],
    "pathkind": ["PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath", "Path", "PurePath", "os",
                 "__class__"],
    "address": ["1.2.3.4", "::1", "::", "255.255.255.255", "fe80::1%eth0", "::1%" + "a" * 100, "1.2.3",
                "01.2.3.4", "\u0661.2.3.4"],
    "addresskind": ["IPv4Address", "IPv6Address", "IPv4Network", "IPv6Network", "IPv4Interface",
                    "IPv6Interface", "IPv4"],
    "network": ["10.0.0.0/8", "::/0", "0.0.0.0/0", "1.2.3.4/32", "fe80::/10", "10.0.0.1/8", "::1/128",
                "10.0.0.0/0.0.0.255", "1.2.3.4/-1", "::/" + "9" * 60, "fe80::1%s/64", "1.2.3.4/33"],
    "typecode": [*"bBuhHiIlLqQfd", "w", "c", "", "dd", "\0"],
    "order": ["C", "F", "C", "F", "A", "K", "", "CC"],
    "error": [name for name, cls in vars(builtins).items() if isinstance(cls, type) and issubclass(cls,
              BaseException)]
    + ["int", "type", "Exception\0", "__build_class__", "error", "UnicodeDecodeError", "SyntaxError",
       "UnicodeEncodeError", "OSError", "ExceptionGroup", "KeyError", "ImportError", "SystemExit", "StopIteration"],
    "number": ["<i8", "<i4", "|i1", "<u8", "<f8", "<f4", "<f2", "|b1", "<u2", ">f8", ">i8", "<f16", "<c8",
               "|S5", "<i3", "f8"],
    "fields": ["fields", "array", "field", "arrays"],
}  # fmt: skip
POOLS: dict[str, list[bytes]] = {kind: [asm.text(value) for value in values] for kind, values in TEXTS.items()}

# SPDX-License-Identifier: MIT
"""Compile the C core: `python build.py` in place, or as hatchling's build hook.

One compiler call over cffi's generated glue and csrc/*.c makes lensipc/_core.abi3.so, which runs on every
CPython from 3.11 on. Two modules are in it: cffi's lensipc._core, and lensipc._fast of csrc/python/module.c. `$CC`,
`$CFLAGS` and `$LDFLAGS` are honoured. The wheel's platform is read from what was built, because the compiler may be one
for another machine.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
# What names a machine in a wheel's tag, by what names it in an ELF file: those that lensipc is built for, or may be.
MACHINES = {
    "EM_X86_64": "x86_64",
    "EM_AARCH64": "aarch64",
    "EM_RISCV": "riscv64",
    "EM_PPC64": "ppc64le",
    "EM_S390": "s390x",
    "EM_LOONGARCH": "loongarch64",
}
# The parts of a libc: one that needs more than these is for the machine that it was built on.
GLIBC = re.compile(r"(libc|libm|libdl|librt|libpthread|ld-linux[-\w]*|ld64)\.so\.\d+")
MUSL = re.compile(r"libc\.so|libc\.musl-\w+\.so\.1")
# The oldest glibc that a tag speaks of, and the one version of musl: its files do not say which they need.
OLDEST_GLIBC = {"riscv64": (2, 31), "loongarch64": (2, 36)}  # and 2.17 elsewhere
MUSL_VERSION = "1_2"
# A free-threaded interpreter has no stable ABI before 3.15: there the module is built for that one version.
LIMITED_API = not sysconfig.get_config_var("Py_GIL_DISABLED")


def cdef(header: Path) -> str:
    """lensipc.h as cffi takes it: its `#define NAME int` lines, and no other line of the preprocessor's."""
    lines = header.read_text().splitlines()
    keep = re.compile(r"#define \w+ \d+")
    return "\n".join(line for line in lines if not line.startswith("#") or keep.match(line))


def compile_core() -> Path:
    """Compile in place and return the module's path; RuntimeError with the way out where that fails."""
    if sys.platform != "linux" or sys.maxsize < 2**32:
        raise RuntimeError(
            f"lensipc runs on 64-bit Linux only, and this is {sys.platform}, {sys.maxsize.bit_length() + 1} bits"
        )
    import cffi

    ffi = cffi.FFI()
    ffi.cdef(cdef(ROOT / "csrc" / "lensipc.h"))
    ffi.set_source("lensipc._core", '#include "lensipc.h"')
    glue = ROOT / "build" / "_core.c"
    glue.parent.mkdir(exist_ok=True)
    ffi.emit_c_code(str(glue))

    suffix = ".abi3.so" if LIMITED_API else sysconfig.get_config_var("EXT_SUFFIX")
    target = ROOT / "lensipc" / f"_core{suffix}"
    compiler = shlex.split(os.environ.get("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        raise RuntimeError(
            f"no C compiler: {compiler[0]!r} is not on PATH. Install one (Debian: apt-get install gcc libc6-dev; "
            "Fedora: dnf install gcc) or set $CC."
        )
    include = sysconfig.get_path("include")
    if not Path(include, "Python.h").is_file():
        raise RuntimeError(
            f"Python.h is not in {include}: install this Python's headers (Debian: apt-get install python3-dev; "
            "Fedora: dnf install python3-devel)."
        )
    command = [
        *compiler,
        *shlex.split("-std=c11 -O2 -fPIC -shared -fvisibility=hidden -pthread -Wall -Wextra"),
        "-DPy_LIMITED_API=0x030b0000" if LIMITED_API else "-D_CFFI_NO_LIMITED_API",
        *shlex.split(os.environ.get("CFLAGS", "")),
        f"-ffile-prefix-map={ROOT}=.",  # no path of this machine in the module
        f"-I{include}",
        f"-I{ROOT / 'csrc'}",
        str(glue),
        *map(str, sorted((ROOT / "csrc").rglob("*.c"))),
        *shlex.split(os.environ.get("LDFLAGS", "")),
        "-lrt",
        "-o",
        str(target),
    ]
    for stale in target.parent.glob("_core*.so"):  # an old _core.cpython-*.so would be imported before this one
        stale.unlink()
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise RuntimeError(f"the C core did not compile (exit {done.returncode}): {shlex.join(command)}")
    return target


def platform_of(module: Path) -> str:
    """The platform of a wheel with this module: its machine, its libc, and the version of that which it needs."""
    from elftools.elf.elffile import ELFFile

    with module.open("rb") as file:
        elf: Any = ELFFile(file)  # its types do not know which section is of which kind
        machine = MACHINES.get(elf["e_machine"])
        if machine is None or elf.elfclass != 64:
            raise RuntimeError(f"lensipc is not known to run on this machine: {elf['e_machine']}, {elf.elfclass} bits")
        needed = {tag.needed for tag in elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")}
        versions = elf.get_section_by_name(".gnu.version_r")
        symbols = [each.name for _, names in (versions.iter_versions() if versions else ()) for each in names]
    if needed and all(map(MUSL.fullmatch, needed)):
        return f"musllinux_{MUSL_VERSION}_{machine}"
    if not all(map(GLIBC.fullmatch, needed)):
        return f"linux_{machine}"
    numbers = [name.removeprefix("GLIBC_").split(".") for name in symbols if re.fullmatch(r"GLIBC_[\d.]+", name)]
    major, minor = max(
        [OLDEST_GLIBC.get(machine, (2, 17)), *((int(first), int(second)) for first, second, *_ in numbers)]
    )
    return f"manylinux_{major}_{minor}_{machine}"


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # `python build.py` without hatchling
    pass
else:

    class CoreBuildHook(BuildHookInterface):  # type: ignore[type-arg]
        """Puts the compiled core in the wheel, and the right tag on the wheel."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
            try:
                target = compile_core()
                platform = platform_of(target)
            except RuntimeError as error:
                raise SystemExit(str(error)) from None  # which pip shows as it is, without a traceback
            build_data["pure_python"] = False
            build_data["artifacts"].append(str(target.relative_to(ROOT)))  # git-ignored, so named
            # hatchling cannot infer abi3 (pypa/hatch#1446), nor what another machine's compiler made.
            python = "cp{}{}".format(*sys.version_info)
            interpreter = "cp311-abi3" if LIMITED_API else f"{python}-{python}t"
            build_data["tag"] = f"{interpreter}-{platform}"


if __name__ == "__main__":
    if __spec__ is None:
        print(compile_core())
    else:
        # `python -m build` in this folder found this file: hand over to the real package of that name.
        sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
        runpy.run_module("build", run_name="__main__", alter_sys=True)

# SPDX-License-Identifier: MIT
"""Compile the C core: `python build.py` in place, or as hatchling's build hook.

One compiler call over cffi's generated glue and csrc/*.c makes lensipc/_core.abi3.so, which runs on every
CPython from 3.11 on. `$CC`, `$CFLAGS` and `$LDFLAGS` are honoured; `$LENSIPC_PLATFORM` names the wheel's platform
where it is not this machine's.
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
# A free-threaded interpreter has no stable ABI before 3.15: there the module is built for that one version.
LIMITED_API = not sysconfig.get_config_var("Py_GIL_DISABLED")


# lib.lipc_calls(): the functions of csrc/python/calls.c, which cffi has no type for.
CALLS = """\
static PyObject *
_cffi_f_lipc_calls(PyObject *self, PyObject *noarg)
{
    (void)self;
    (void)noarg;
    return lipc_calls();
}
"""


def with_calls(glue: str) -> str:
    """cffi's glue with that function in the place of what cffi wrote for it."""
    written = re.compile(r"static PyObject \*\n_cffi_f_lipc_calls\(.*?\n}\n", re.DOTALL)
    glue, count = written.subn(lambda _: CALLS, glue)
    if count != 1:
        raise RuntimeError("this version of cffi writes its glue in another way: build.py must learn it")
    return glue


def cdef(header: Path) -> str:
    """lensipc.h as cffi takes it: its `#define NAME int` lines, and no other line of the preprocessor's."""
    lines = header.read_text().splitlines()
    keep = re.compile(r"#define \w+ \d+")
    return "\n".join(line for line in lines if not line.startswith("#") or keep.match(line))


def compile_core() -> Path:
    """Compile in place and return the module's path; RuntimeError with the way out where that fails."""
    import cffi

    ffi = cffi.FFI()
    ffi.cdef(cdef(ROOT / "csrc" / "lensipc.h") + "\nvoid *lipc_calls(void);")
    ffi.set_source("lensipc._core", '#include "lensipc.h"\n#include "python/calls.h"')
    glue = ROOT / "build" / "_core.c"
    glue.parent.mkdir(exist_ok=True)
    ffi.emit_c_code(str(glue))
    glue.write_text(with_calls(glue.read_text()))

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


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # `python build.py` without hatchling
    pass
else:

    class CoreBuildHook(BuildHookInterface):  # type: ignore[type-arg]
        """Puts the compiled core in the wheel, and the right tag on the wheel."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
            target = compile_core()
            build_data["pure_python"] = False
            build_data["artifacts"].append(str(target.relative_to(ROOT)))  # git-ignored, so named
            if LIMITED_API:  # hatchling cannot infer abi3 (pypa/hatch#1446)
                platform = os.environ.get("LENSIPC_PLATFORM") or sysconfig.get_platform()
                build_data["tag"] = "cp311-abi3-" + re.sub(r"[-.]", "_", platform)
            else:
                build_data["infer_tag"] = True


if __name__ == "__main__":
    if __spec__ is None:
        print(compile_core())
    else:
        # `python -m build` in this folder found this file: hand over to the real package of that name.
        sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
        runpy.run_module("build", run_name="__main__", alter_sys=True)

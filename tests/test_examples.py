"""The programs of examples/: each runs for a moment, where its library is installed, and says what it should."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

JOBS = ("brightness", "motion", "edges", "recorder")

# What each needs, how long it runs (seconds), and what it says.
SAYS = {
    "files_and_search": ("", 1.0, r"window \d+: 1 files, 'broadcast' in 1 lines"),
    "camera": ("", 1.0, r"(?s)main +\S+ MB.*" + ".*".join(rf"{job} +\S+ +[1-9]\d* " for job in JOBS)),
    "trio_renderer": ("trio", 0.5, r"1 doubled is 2; heard 1"),
    "qt_renderer": ("PySide6", 2.0, r"180 words, 8 different, 100 %"),
    "textual_renderer": ("textual", 1.0, r"heard the time [1-9]\d* times"),
}


@pytest.mark.parametrize("name", SAYS)
def test_an_example_runs_and_says_what_it_should(name: str, tmp_path: Path) -> None:
    needs, seconds, says = SAYS[name]
    if needs and find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed")
    command = [sys.executable, str(EXAMPLES / f"{name}.py")]
    if name == "files_and_search":
        (tmp_path / "notes.txt").write_text("to broadcast\nand no more\n")
        command.append(str(tmp_path))
    environment = os.environ | {"QT_QPA_PLATFORM": "offscreen"}
    for time in (seconds, 10 * seconds):  # a busy machine may need longer to say anything
        run = [*command, "--seconds", str(time)]
        done = subprocess.run(run, capture_output=True, text=True, env=environment, timeout=100, check=False)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert "lensipc" not in done.stderr
        if re.search(says, done.stdout):
            return
    pytest.fail(f"it says {done.stdout!r}")


def test_the_camera_paints_its_table_over_and_over_in_a_terminal_and_ends_by_ctrl_c() -> None:
    ours, terminal = os.openpty()
    command = [sys.executable, str(EXAMPLES / "camera.py")]
    with subprocess.Popen(command, stdout=terminal, stderr=subprocess.PIPE, start_new_session=True) as process:
        try:
            os.close(terminal)
            said = b""
            while b"\x1b[7A" not in said or not re.search(rb"recorder +\S+ +[1-9]", said):
                said += os.read(ours, 65536)  # pytest's timeout is the watchdog
            os.killpg(process.pid, signal.SIGINT)  # a terminal's Ctrl-C comes to all processes of the program
            with suppress(OSError):  # EIO: nobody has the terminal any more
                while os.read(ours, 65536):
                    pass
            assert process.wait(30) == 0
            assert process.stderr is not None
            assert process.stderr.read() == b""
        finally:
            process.kill()
            os.close(ours)


@pytest.mark.parametrize("options", [[], ["--lensipc-in-process"]], ids=["processes", "in_process"])
def test_the_examples_own_tests_pass(options: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *options]
    command += ["--rootdir", str(EXAMPLES), "-c", os.devnull, str(EXAMPLES / "test_files_and_search.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=100, check=False)
    assert done.returncode == 0, done.stdout
    assert ("1 skipped" in done.stdout) == bool(options)  # what kills needs a process


def test_each_example_is_run_and_listed() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py") if not path.stem.startswith("test_")}
    assert names == set(SAYS)
    assert names == set(re.findall(r"`(\w+)\.py`", (EXAMPLES / "README.md").read_text()))

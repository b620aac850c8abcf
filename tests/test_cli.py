"""The command line, apart from what the demo does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import lensipc

# Makes one module impossible to import, as if it were not installed; then runs the command.
WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {name!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
sys.argv = ["lensipc", *{arguments!r}]
from lensipc.cli import main
main()
"""


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "command",
    [[str(Path(sys.executable).with_name("lensipc"))], [sys.executable, "-m", "lensipc"]],
    ids=["lensipc", "python -m lensipc"],
)
def test_the_command_says_its_version(command: list[str]) -> None:
    done = _run(*command, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"lensipc {lensipc.__version__}\n", "")


def test_without_arguments_it_says_what_it_can_do() -> None:
    done = _run(sys.executable, "-m", "lensipc")
    assert "demo" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_help_shows_what_stands_in_brackets() -> None:
    """An extra's name is no markup to be swallowed."""
    done = _run(sys.executable, "-m", "lensipc", "bench", "--help")
    assert "pip install 'lensipc[bench]'" in done.stdout
    assert "[default: all]" in done.stdout


@pytest.mark.parametrize("name", ["typer", "rich", "psutil"])
def test_where_the_extra_is_missing_one_line_says_what_to_install(name: str) -> None:
    for arguments in [["demo"], ["bench", "--quick"], []]:
        done = _run(sys.executable, "-c", WITHOUT.format(name=name, arguments=arguments))
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"lensipc: the command line needs {name}: pip install 'lensipc[cli]'\n"


@pytest.mark.parametrize("name", ["typer", "rich", "psutil", "numpy"])
def test_it_says_its_version_without_the_extra(name: str) -> None:
    done = _run(sys.executable, "-c", WITHOUT.format(name=name, arguments=["--version"]))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"lensipc {lensipc.__version__}\n", "")


@pytest.mark.parametrize("module", ["lensipc", "lensipc.cli", "lensipc.demo"])
def test_importing_it_imports_nothing_of_the_extra(module: str) -> None:
    code = f"import sys, {module}; print({{'typer', 'click', 'rich', 'psutil'}} & set(sys.modules))"
    assert _run(sys.executable, "-c", code).stdout == "set()\n"


@pytest.mark.parametrize("wrong", [["--renderers", "1"], ["--seconds", "soon"]])
def test_a_wrong_option_is_refused_with_status_2(wrong: list[str]) -> None:
    done = _run(sys.executable, "-m", "lensipc", "demo", *wrong)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr

"""What a person meets where lensipc cannot run: one sentence, on installing it and on importing it."""

from __future__ import annotations

import platform
import re
import runpy
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest

from lensipc import _core, _fast

ROOT = Path(__file__).parent.parent


def run(code: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path[:] = {sys.path!r}\n" + textwrap.dedent(code)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)


# What another machine's Python says of itself.
OTHERS = [
    pytest.param("sys.platform = 'darwin'", "this is darwin, 64 bits", id="macOS"),
    pytest.param("sys.platform = 'win32'", "this is win32, 64 bits", id="Windows"),
    pytest.param("sys.maxsize = 2**31 - 1", "this is linux, 32 bits", id="32 bits"),
]


@pytest.mark.parametrize(("other", "named"), OTHERS)
def test_importing_it_elsewhere_says_where_it_runs(other: str, named: str) -> None:
    done = run(f"""
        {other}
        try:
            import lensipc
        except ImportError as error:
            print(error)
    """)
    assert (done.stdout, done.stderr) == (f"lensipc runs on 64-bit Linux only, and {named}\n", "")


@pytest.mark.parametrize(("other", "named"), OTHERS)
def test_building_it_elsewhere_stops_with_one_sentence(other: str, named: str, tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    done = run(f"""
        import runpy
        hook = runpy.run_path({str(ROOT / "build.py")!r}, run_name="hook")["CoreBuildHook"]
        {other}
        hook({str(tmp_path)!r}, {{}}, None, None, {str(tmp_path)!r}, "wheel").initialize("standard", {{}})
    """)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"lensipc runs on 64-bit Linux only, and {named}")
    assert len(done.stderr.splitlines()) == 1


def test_a_wheels_platform_is_read_from_what_was_compiled() -> None:
    pytest.importorskip("elftools")
    platform_of = runpy.run_path(str(ROOT / "build.py"), run_name="hook")["platform_of"]
    ours = platform_of(Path(_core.__file__))
    assert re.fullmatch(rf"(manylinux_2_\d+|musllinux_1_2)_{platform.machine()}", ours)


def test_what_was_compiled_is_two_modules_and_exports_nothing_else() -> None:
    elffile = pytest.importorskip("elftools.elf.elffile")
    with Path(_core.__file__).open("rb") as file:
        symbols = list(elffile.ELFFile(file).get_section_by_name(".dynsym").iter_symbols())
    shown = {
        each.name for each in symbols if each["st_shndx"] != "SHN_UNDEF" and each["st_info"]["bind"] == "STB_GLOBAL"
    }
    assert shown - {"_init", "_fini"} == {"PyInit__core", "PyInit__fast"}
    assert _fast.__file__ == _core.__file__
    assert _fast.__name__ == "lensipc._fast"


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has a GIL at all times")
def test_importing_it_enables_the_gil_of_a_free_threaded_python() -> None:
    assert run("import lensipc; print(sys._is_gil_enabled())").stdout == "True\n"


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("lensipc._core", "lensipc has no compiled part for this Python: "),
        ("_cffi_backend", "lensipc needs cffi, which is not installed for this Python: pip install cffi"),
    ],
)
def test_importing_it_without_its_compiled_part_says_what_to_do(missing: str, said: str) -> None:
    done = run(f"""
        class Missing:
            def find_spec(self, name, path=None, target=None):
                if name == {missing!r}:
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        sys.meta_path.insert(0, Missing())
        try:
            import lensipc
        except ImportError as error:
            print(error)
    """)
    assert done.stdout.startswith(said)
    assert done.stderr == ""

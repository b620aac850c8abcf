# SPDX-License-Identifier: MIT
"""The house itself: its public names, its floors, its tests, and what importing it costs."""

from __future__ import annotations

import ast
import functools
import inspect
import json
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import lensipc

ROOT = Path(__file__).parent.parent
PACKAGE = Path(lensipc.__file__).parent  # which is not in the checkout where an installed wheel is tested
FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    """A file's module, without the package's name: "main.router"; a folder is its __init__."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


# What users import and what runs the package; each folder is a room.
MODULES = {module_of(path): path for path in FILES if path != PACKAGE / "__init__.py"}
INSIDE = {name: path for name, path in MODULES.items() if name.partition(".")[0] not in ("demo", "bench")}

# The floors of lensipc/__init__.py's docstring: a module imports from its own room and the floors below.
FLOORS = {
    1: {"_core", "_fast", "supported", "errors", "user_code", "log"},
    2: {"clone"},
    3: {"transport", "adapters"},
    4: {"runtime"},
    5: {"channel", "events", "extension", "ipc"},
    6: {"main", "renderer"},
    7: {"cli", "demo", "bench", "testing", "__main__", "__pyinstaller"},
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names}


@functools.cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.AST, running: bool = True) -> Iterator[tuple[str, str]]:
    """(module, name) of every import, wherever it stands; TYPE_CHECKING's do not run."""
    for node in ast.iter_child_nodes(tree):
        if running and isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (("." * node.level + (node.module or ""), alias.name) for alias in node.names)
        else:
            yield from imports(node, running)


def our_imports(name: str, *, running: bool = True) -> set[str]:
    """The modules of ours that a module imports, those for types too unless `running`; "" is the package itself."""
    path = MODULES[name]
    package = ["lensipc", *path.relative_to(PACKAGE).parent.parts]
    found = set()
    for module, imported in imports(parse(path), running):
        level = len(module) - len(module.lstrip("."))
        start = package[: len(package) - level + 1] if level else []
        parts = [*start, *filter(None, module[level:].split("."))]
        if parts[:1] == ["lensipc"]:
            inner = ".".join([*parts[1:], imported])
            found.add(inner if inner in MODULES or inner == "_core" else ".".join(parts[1:]))
    return found


def room(module: str) -> str:
    return module.partition(".")[0]


# ---- public names ----


def test_all_is_sorted_and_holds_every_public_name_and_no_other() -> None:
    assert lensipc.__all__ == sorted(lensipc.__all__)
    assert len(set(lensipc.__all__)) == len(lensipc.__all__)
    tree = parse(PACKAGE / "__init__.py")
    bound = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
        if not (alias.asname or "").startswith("_")
    }
    assert bound == set(lensipc.__all__)


@pytest.mark.parametrize("name", lensipc.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    value = getattr(lensipc, name)
    if name != "Disposer":  # an alias of a type, which cannot hold a docstring
        assert isinstance(value, (type, types.ModuleType, types.FunctionType))
        assert value.__doc__, "its own, not its base's"


def test_the_version_stands_in_one_place() -> None:
    assert metadata.version("lensipc") == lensipc.__version__
    assert not re.search(r"^version = ", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)


def test_every_error_is_public_is_raised_by_name_and_stands_in_the_tree() -> None:
    from lensipc import errors

    kinds = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert set(kinds) <= set(lensipc.__all__)
    assert errors.__doc__ is not None
    for name, kind in kinds.items():
        assert issubclass(kind, lensipc.LensIpcError)
        bases = {
            base.__name__ for base in kind.__bases__ if base is not Exception and base.__module__ != errors.__name__
        }
        drawn = re.search(rf"{name}(?: \((\w+)\))?(?: |$)", errors.__doc__, re.MULTILINE)
        assert drawn is not None
        assert {drawn[1]} - {None} == bases


# ---- floors ----


def test_every_room_stands_on_a_floor() -> None:
    assert {room(name) for name in MODULES} | {"_core"} == set(FLOOR)


def test_the_docstring_draws_the_floors_as_they_are() -> None:
    assert lensipc.__doc__ is not None
    drawn: dict[int, set[str]] = {}
    floor = 0
    for number, names in re.findall(r"^    ([1-7 ])  ((?:\w+, )*\w+)  ", lensipc.__doc__, re.MULTILINE):
        floor = int(number) if number.strip() else floor
        drawn.setdefault(floor, set()).update(names.split(", "))
    assert sorted(drawn) == [1, 2, 3, 4, 5, 6, 7]
    for number, names in drawn.items():
        assert names == FLOORS[number] - {"__main__", "__pyinstaller"}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_from_its_room_and_the_floors_below(name: str) -> None:
    for imported in our_imports(name, running=False):
        if imported == "":
            assert FLOOR[room(name)] == 7, "only the top imports the package itself"
        elif room(imported) != room(name):
            own_floor = {room(name), room(imported)} <= FLOORS[1] | FLOORS[5]
            below = FLOOR[room(imported)] < FLOOR[room(name)] or FLOOR[room(name)] == 7
            assert below or own_floor, f"{name} imports {imported}"


def test_no_two_modules_import_each_other() -> None:
    graph = {name: our_imports(name) - {""} for name in INSIDE}
    graph["clone.constructors"].discard("clone.ndarray")  # which a function imports when the first array comes
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above, name))
        if name not in done:
            for imported in graph.get(name, ()):
                visit(imported, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_only_transport_and_clone_know_the_c_core() -> None:
    knowing = {name for name in MODULES if "_core" in our_imports(name)}
    assert knowing == {"supported", "_fast", "transport.endpoint", "transport.slabs", "clone.codec"}
    knowing = {name for name in MODULES if "_fast" in our_imports(name)}
    assert {name for name in knowing if room(name) != "clone"} == {"transport.endpoint", "transport.slabs"}


@pytest.mark.parametrize(
    "name", [name for name in MODULES if room(name) == "clone"] + ["runtime.channels", "runtime.pending"]
)
def test_values_and_tables_do_no_io_start_no_thread_and_have_no_clock(name: str) -> None:
    banned = {"socket", "select", "selectors", "asyncio", "subprocess", "multiprocessing", "time", "signal", "mmap"}
    assert {module.partition(".")[0] for module, _ in imports(parse(MODULES[name]))} & banned == set()


@pytest.mark.parametrize("path", sorted((PACKAGE / "demo").glob("*.py")), ids=lambda path: path.stem)
def test_the_demo_uses_public_names_only(path: Path) -> None:
    for module, name in imports(parse(path)):
        if module.partition(".")[0] == "lensipc":
            assert module == "lensipc" or module.startswith("lensipc.demo")
            assert name in lensipc.__all__ or module.startswith("lensipc.demo") or name == "demo"


RIVAL_MODULES = {"faster_fifo", "iceoryx2", "uvloop", "zenoh", "zmq"}


@pytest.mark.parametrize("path", sorted((PACKAGE / "bench").rglob("*.py")), ids=lambda path: path.stem)
def test_a_rival_is_imported_by_its_own_adapter_only_and_is_needed_by_nobody_else(path: Path) -> None:
    imported = {module.partition(".")[0] for module, _ in imports(parse(path))} & RIVAL_MODULES
    where_it_runs = {"uvloop"} if path.stem == "loops" else set()
    assert imported <= where_it_runs or (path.parent.name == "rivals" and len(imported) == 1)


def test_only_the_command_knows_the_benchmarks_and_only_when_it_runs_them() -> None:
    assert {name for name in INSIDE if "bench" in map(room, our_imports(name))} == {"cli.commands"}
    at_once = [node.module for node in parse(MODULES["cli.commands"]).body if isinstance(node, ast.ImportFrom)]
    assert [module for module in at_once if module and module.startswith("bench")] == []


# ---- every module ----


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_file_says_its_licence_and_its_job(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# SPDX-License-Identifier: MIT\n")
    assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_public_function_and_class_has_a_docstring(path: Path) -> None:
    bare = [
        node.name
        for node in parse(path).body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        if not node.name.startswith("_") and not ast.get_docstring(node)
    ]
    assert bare == []


@pytest.mark.parametrize("name", [*lensipc.__all__, "Ipc.Main", "Ipc.Renderer", "Types.IpcEvent"])
def test_every_public_method_of_a_public_class_has_a_docstring(name: str) -> None:
    value: Any = lensipc
    for part in name.split("."):
        value = getattr(value, part)
    if isinstance(value, type):
        for kind in value.__mro__:
            if kind.__module__.startswith("lensipc"):
                members = {key: each for key, each in vars(kind).items() if not key.startswith("_")}
                bare = [key for key, each in members.items() if callable(each) or isinstance(each, property)]
                assert [key for key in bare if not inspect.getdoc(members[key])] == []


def test_no_c_file_is_without_its_licence() -> None:
    for path in (ROOT / "csrc").rglob("*.[ch]"):
        assert "SPDX-License-Identifier: MIT" in path.read_text().splitlines()[0]


# ---- what importing costs ----

COSTLY = {
    "asyncio",
    "inspect",
    "numpy",
    "typer",
    "rich",
    "psutil",
    "subprocess",
    "multiprocessing",
    "concurrent.futures",
    "ssl",
}


@pytest.mark.process
def test_importing_lensipc_imports_nothing_costly_starts_no_thread_and_opens_nothing() -> None:
    code = """
import os, sys
before = len(os.listdir("/proc/self/fd"))
import lensipc
import threading, json
print(json.dumps([sorted(sys.modules), threading.active_count(), len(os.listdir("/proc/self/task")),
                  len(os.listdir("/proc/self/fd")) - before]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    modules, threads, tasks, descriptors = json.loads(done.stdout)
    assert COSTLY & set(modules) == set()
    assert (threads, tasks, descriptors) == (1, 1, 0)
    assert done.stderr == ""


# ---- docs ----


def test_no_link_of_the_readme_is_relative() -> None:
    """The index shows it without the files beside it, and the project has no public address yet to link to."""
    text = re.sub(r"`[^`\n]*`", "", (ROOT / "README.md").read_text())
    assert re.findall(r"\]\((?!https?://)(.*?)\)", text) == []


DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "bench" / "README.md"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_and_every_file_that_a_document_names_is_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?://)([^)#\"]+)", re.sub(r"`[^`\n]*`", "", text))
    assert [link for link in links if not (path.parent / link).exists()] == []
    named = set(re.findall(r"`((?:csrc|docs|tests|lensipc)/[\w./-]*\w)(?:::\w+)?`", text))
    roots = {"lensipc": PACKAGE.parent}
    assert [name for name in sorted(named) if not (roots.get(name.partition("/")[0], ROOT) / name).exists()] == []


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"\]\(([\w-]+\.md)\)", (folder / "README.md").read_text())
    assert sorted([*listed, "README.md"]) == sorted(path.name for path in folder.glob("*.md"))


def guarantees() -> list[tuple[str, list[str]]]:
    """Each guarantee of docs/guarantees.md with the tests that it names."""
    text = (ROOT / "docs" / "guarantees.md").read_text()
    parts = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    return [(part.splitlines()[0], re.findall(r"^Test: (.+)$", part, re.MULTILINE)) for part in parts]


def test_there_are_seven_guarantees_and_each_names_its_tests() -> None:
    found = [title for title, tests in guarantees() if tests]
    assert len(found) >= 7
    numbered = [title for title, _ in guarantees() if re.match(r"\d+\. ", title)]
    assert len(numbered) >= 7
    assert set(numbered) <= set(found), "a guarantee without a test"


def test_every_test_that_a_guarantee_names_exists() -> None:
    missing = []
    for _, tests in guarantees():
        for test in tests:
            path, _, name = test.strip().partition("::")
            file = ROOT / path
            functions = [node.name for node in ast.walk(parse(file)) if hasattr(node, "name")] if file.is_file() else []
            if name not in functions:
                missing.append(test)
    assert missing == []


# ---- docs/architecture.md ----

ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SPANS = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", ARCHITECTURE)]
# `file: name, Class.name`, as the document's head says.
REFERENCE = re.compile(r"([\w./-]+\.(?:py|c|h))(?:: (\w+(?:\.\w+)?(?:, \w+(?:\.\w+)?)*))?")


def file_of(name: str) -> Path:
    """The file that the document calls so: a path from lensipc/, from csrc/, or from the root."""
    base = PACKAGE if name.endswith(".py") else ROOT / "csrc"
    return base / name if (base / name).exists() else ROOT / name


def names_of_python(path: Path) -> set[str]:
    """Functions, classes and constants, and of each class its methods and what these set: "name", "Class.name"."""

    def bound(body: list[ast.stmt]) -> Iterator[str]:
        for node in body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                yield node.name
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                yield from (each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name))

    def set_on_self(kind: ast.ClassDef) -> Iterator[str]:
        for node in ast.walk(kind):
            match node:
                case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                    yield name

    tree = parse(path)
    names = set(bound(tree.body))
    for kind in tree.body:
        if isinstance(kind, ast.ClassDef):
            names |= {f"{kind.name}.{name}" for name in bound(kind.body)}
            names |= {f"{kind.name}.{name}" for name in set_on_self(kind)}
    return names


def names_of_c(path: Path) -> set[str]:
    """Functions with a body, macros and structs: what is only declared, or called, is defined elsewhere."""
    text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    defined = (r"^\w[\w *]*?\b(\w+)\([^;{}]*\)\n\{", r"^#define (\w+)", r"\bstruct (\w+) \{")
    return {name for each in defined for name in re.findall(each, text, re.MULTILINE)}


def test_the_architecture_names_files_and_what_is_defined_in_them() -> None:
    references = [match for span in SPANS if (match := REFERENCE.fullmatch(span))]
    wrong = []
    for match in references:
        path = file_of(match[1])
        if not path.is_file():
            wrong.append(match[0])
            continue
        found = names_of_python(path) if path.suffix == ".py" else names_of_c(path)
        wrong += [f"{match[1]}: {name}" for name in (match[2] or "").split(", ") if name and name not in found]
    assert wrong == []
    assert len([match for match in references if match[2]]) > 100, "the pattern no longer finds them"


def test_the_architecture_names_nothing_of_the_code_but_beside_its_file() -> None:
    loose = [
        span
        for span in SPANS
        if not REFERENCE.fullmatch(span)
        if re.search(r"\w\.(py|[ch])\b|: ", span) or re.fullmatch(r"lipc_\w+|_+[a-z]\w+|(?!Ipc\.)[A-Z]\w*\.\w+", span)
    ]
    assert loose == []


def test_the_architecture_has_a_line_for_each_file() -> None:
    listed = set(SPANS[: SPANS.index("ipc.py: _Ipc.broadcast")])  # the floor plan
    package = {str(path.relative_to(PACKAGE)) for path in FILES if room(module_of(path)) not in ("demo", "bench")}
    core = {str(path.relative_to(ROOT / "csrc")) for path in (ROOT / "csrc").rglob("*.[ch]")}
    assert sorted((package | core) - listed) == []


def test_each_term_of_the_glossary_is_one_that_the_code_uses() -> None:
    terms = re.findall(r"^\| ([a-z ]+) \| ", ARCHITECTURE.partition("## 7. Glossary")[2], re.MULTILINE)[1:]
    assert terms == sorted(terms)
    assert len(terms) > 40
    text = " ".join(path.read_text(encoding="utf-8") for path in (*FILES, *(ROOT / "csrc").rglob("*.[ch]")))
    words = " ".join(re.sub(r"[^a-z]+", " ", text.lower()).split())  # high_water is "high water"
    assert [term for term in terms if not re.search(rf"\b{term}s?\b", words)] == []


# What files of a folder of csrc may include of ours, beside those of the folder itself.
INCLUDES = {
    "ring": {"lensipc.h"},
    "endpoint": {"lensipc.h", "fast.h", "ring"},
    "clone": {"lensipc.h", "Python.h"},
    "python": {"lensipc.h", "fast.h", "endpoint", "clone", "Python.h", "structmember.h"},
}


@pytest.mark.parametrize("folder", INCLUDES)
def test_a_c_file_includes_only_what_its_folder_may(folder: str) -> None:
    ours = {"Python.h", "structmember.h", *INCLUDES, "lensipc.h", "fast.h"}
    for path in (ROOT / "csrc" / folder).iterdir():
        included = re.findall(r'^#include ["<]([\w./]+)[">]', path.read_text(encoding="utf-8"), re.MULTILINE)
        found = {name.partition("/")[0] for name in included} & ours
        assert found <= INCLUDES[folder] | {folder}, path.name

"""Rules of the house: at most 16 files a folder, imports without a circle, a test beside every module."""

import ast
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
MOST_FILES = 16
LINES_WITHOUT_A_TEST = 60
LINKED = ("server", "client", "strategies", "protos")  # real folders at the root, linked into fedcore/
FOLDERS = ("fedcore", *LINKED, "benchmarks", "tests", "examples", "docker")


def generated(path: Path) -> bool:
    """Whether protoc wrote the file."""
    return "_pb2" in path.name


def python_files(folder: str) -> list[Path]:
    """Every Python file below a folder of the root, links not followed."""
    return sorted(path for path in (ROOT / folder).rglob("*.py") if not generated(path) and ".venv" not in path.parts)


@cache
def modules() -> Mapping[str, Path]:
    """Every module of the package by its import name; a package's `__init__` counts as the package."""
    found = {}
    for folder in ("fedcore", *LINKED):
        for path in python_files(folder):
            parts = path.relative_to(ROOT).with_suffix("").parts
            named = parts if folder == "fedcore" else ("fedcore", *parts)
            found[".".join(named[:-1] if named[-1] == "__init__" else named)] = path
    return found


@cache
def imports() -> Mapping[str, frozenset[str]]:
    """The modules that each module imports, inside functions and for type checkers too; packages left out."""
    known = modules()
    return {
        name: frozenset(
            target
            for target in _named(ast.parse(path.read_text(encoding="utf-8")))
            if target in known and target != name and known[target].name != "__init__.py"
        )
        for name, path in known.items()
        if path.name != "__init__.py"
    }


def _named(tree: ast.Module) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def circle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """The nodes of one circle of a graph; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def folder_graph() -> dict[str, set[str]]:
    """Which folder imports which: each folder counts for the files that lie in it, not for its subfolders."""
    graph: dict[str, set[str]] = {}
    for name, targets in imports().items():
        own = name.rpartition(".")[0]
        graph.setdefault(own, set()).update({target.rpartition(".")[0] for target in targets} - {own})
    return graph


def sibling_graph(parent: str) -> dict[str, set[str]]:
    """Which child of a package imports which: a subfolder counts with all below it, the package's own files as one."""

    def child(name: str) -> str:
        rest = name.removeprefix(f"{parent}.").split(".")
        return rest[0] if len(rest) > 1 else "its own files"

    below = {name: targets for name, targets in imports().items() if name.startswith(f"{parent}.")}
    graph: dict[str, set[str]] = {}
    for name, targets in below.items():
        inside = {child(target) for target in targets if target.startswith(f"{parent}.")}
        graph.setdefault(child(name), set()).update(inside - {child(name)})
    return graph


def test_a_circle_is_found() -> None:
    assert circle({"a": ["b"], "b": ["c"], "c": []}) == []
    assert set(circle({"a": ["b"], "b": ["c"], "c": ["a"]})) == {"a", "b", "c"}


def test_the_rules_see_the_whole_package() -> None:
    assert len(modules()) > 400
    assert "fedcore.core.errors" in imports()["fedcore.server.serve"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_folder_is_a_hall(folder: str) -> None:
    counts = Counter(path.parent for path in python_files(folder))
    halls = {path.relative_to(ROOT).as_posix(): count for path, count in counts.items() if count > MOST_FILES}
    assert halls == {}


def test_modules_import_each_other_without_a_circle() -> None:
    assert circle(imports()) == []


def test_folders_import_each_other_without_a_circle() -> None:
    assert circle(folder_graph()) == []


@pytest.mark.parametrize(
    "parent", sorted({".".join(name.split(".")[:n]) for name in modules() for n in range(1, name.count(".") + 1)})
)
def test_siblings_import_each_other_without_a_circle(parent: str) -> None:
    assert circle(sibling_graph(parent)) == []


@pytest.mark.parametrize("folder", LINKED)
def test_the_folders_at_the_root_are_linked_into_the_package(folder: str) -> None:
    assert (ROOT / "fedcore" / folder).is_symlink()
    assert (ROOT / "fedcore" / folder).resolve() == ROOT / folder


def test_test_folders_mirror_the_package() -> None:
    """A folder of tests is a folder of the package, or one of those that test more than one module."""
    packages = {PurePosixPath(*name.split(".")[1:]) for name, path in modules().items() if path.name == "__init__.py"}
    of_wholes = {"benchmarks", "docker", "docs", "e2e", "examples", "matrix", "packaging", "whole"}
    folders = {path.parent.relative_to(ROOT / "tests") for path in python_files("tests")}
    strays = {
        folder.as_posix()
        for folder in folders
        if folder.parts and folder.parts[0] not in of_wholes and PurePosixPath(folder.as_posix()) not in packages
    }
    assert strays == {"server/in_process"}


def test_a_module_of_more_than_sixty_lines_has_a_test_of_its_name() -> None:
    untested = []
    for name, path in modules().items():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        expected = ROOT.joinpath("tests", *name.split(".")[1:-1], f"test_{path.name}")
        if path.name != "__init__.py" and lines > LINES_WITHOUT_A_TEST and not expected.is_file():
            untested.append(f"{name} ({lines} lines)")
    assert untested == []

"""`import fedcore` costs nothing and offers what its literal tables say."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import fedcore

ROOT = Path(__file__).parents[2]
MOST_S = 0.1
IMPORT = """
import json, sys, time
begun = time.perf_counter()
import fedcore
took = time.perf_counter() - begun
heavy = ("torch", "numpy", "grpc", "transformers", "typing", "rich", "typer")
print(json.dumps({"took": took, "loaded": [name for name in heavy if name in sys.modules]}))
"""


def test_importing_it_takes_no_time_and_loads_no_library() -> None:
    told = []
    for _ in range(3):  # the best of three: the first may have to compile, and the machine may be busy
        done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, timeout=60, check=True)
        told.append(json.loads(done.stdout))
    assert min(each["took"] for each in told) < MOST_S
    assert all(each["loaded"] == [] for each in told)


def test_the_names_are_sorted_and_few() -> None:
    assert fedcore.__all__ == sorted(set(fedcore.__all__))
    assert 20 <= len(fedcore.__all__) <= 30
    assert set(fedcore.__all__) | {"__version__"} <= set(dir(fedcore))


@pytest.mark.parametrize("name", fedcore.__all__)
def test_every_name_is_what_its_module_defines(name: str) -> None:
    value = getattr(fedcore, name)
    assert value.__name__ == name
    assert value is getattr(sys.modules[value.__module__], name)
    assert value.__doc__


def test_type_checkers_see_the_same_names() -> None:
    """The block for type checkers and the table for the interpreter say the same of every name."""
    seen = {}
    for node in ast.walk(ast.parse((ROOT / "fedcore" / "__init__.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("fedcore."):
            seen |= {alias.name: node.module for alias in node.names}
    assert seen == fedcore._MODULES
    assert sorted(seen) == fedcore.__all__


def test_a_strange_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'fedcore' has no attribute 'simulat'"):
        _ = fedcore.simulat


def test_the_version_is_that_of_the_package() -> None:
    assert f'version = "{fedcore.__version__}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_command_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fedcore", "--version"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == f"fedcore {fedcore.__version__}\n"

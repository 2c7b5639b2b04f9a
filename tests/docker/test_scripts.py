"""The scripts around the images: what they install, and that an arm64 machine finds all of it pinned."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def script(name: str) -> ModuleType:
    """A script of docker/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docker" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_requirements_are_the_project_s() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    light, device = (script("requirements").requirements(text, extras) for extras in ([], ["client"]))
    assert device[: len(light)] == light
    assert any(each.startswith("grpcio") for each in light) and not any(each.startswith("torch") for each in light)
    assert [each for each in device[len(light) :] if each.startswith("torch")] == ["torch>=2.5"]
    with pytest.raises(KeyError):
        script("requirements").requirements(text, ["nothing"])


def test_pins_are_read_by_canonical_name() -> None:
    assert script("check_arm64").pins("# a comment\nhuggingface_hub==2.4.0  # why\n\nPyYAML==6.0.3\n") == {
        "huggingface-hub": "2.4.0",
        "pyyaml": "6.0.3",
    }


def test_everything_an_arm64_device_needs_is_pinned() -> None:
    check = script("check_arm64")
    needed = set(check.needed("fedcore", frozenset({"client"})))
    known = check.pins((ROOT / "constraints.txt").read_text())
    assert {"torch", "grpcio", "transformers", "sympy", "certifi"} <= needed <= set(known)
    assert not any(name.startswith(("nvidia", "cuda", "triton")) for name in needed)
    assert not needed & {"pytest", "mypy", "flwr"}, "only what the images install"

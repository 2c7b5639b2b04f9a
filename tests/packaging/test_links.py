"""A checkout without symbolic links is told so by `make setup`, before it downloads anything."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINKED = ("server", "client", "strategies", "protos")

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def checkout(root: Path) -> Path:
    """Make what `make setup` looks at: the folders of the root, linked into the package."""
    (root / "fedcore").mkdir()
    for name in LINKED:
        (root / name).mkdir()
        (root / name / "__init__.py").touch()
        (root / "fedcore" / name).symlink_to(f"../{name}")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    return root


def setup(root: Path) -> "subprocess.CompletedProcess[str]":
    words = ["make", "--no-print-directory", "setup", "PYTHON=no-python"]
    return subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=60)


def test_a_whole_checkout_goes_on_to_look_for_python(tmp_path: Path) -> None:
    done = setup(checkout(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("Found none of: no-python")


@pytest.mark.parametrize("kind", ["a text file, as git writes it", "absent"])
def test_a_missing_link_is_named(tmp_path: Path, kind: str) -> None:
    link = checkout(tmp_path) / "fedcore" / "client"
    link.unlink()
    if kind != "absent":
        link.write_text("../client")
    done = setup(tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == (
        "fedcore/client is not a link to ../client: this copy was made without symbolic links (a zip on Windows, or "
        "git with core.symlinks=false); clone it with: git clone -c core.symlinks=true"
    )
    assert not (tmp_path / ".venv").exists()

"""examples/own_strategy.py runs as a program, offline; what it registers is checked one by one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_it_runs(tmp_path: Path) -> None:
    place, home, temporary = tmp_path / "place", tmp_path / "home", tmp_path / "temporary"
    for folder in (place, home, temporary):
        folder.mkdir()
    done = subprocess.run(
        [sys.executable, EXAMPLES / "own_strategy.py"],
        cwd=place,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HOME": str(home), "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    heading, *rows = done.stdout.splitlines()
    assert heading.split() == ["strategy", "accuracy", "virtual", "s", "MB", "up"]
    figures = {name: [float(each) for each in rest] for name, *rest in map(str.split, rows)}
    assert set(figures) == {"fedspine", "greedy-ranks"}
    assert all(accuracy > 0.8 and seconds > 0 and megabytes > 0 for accuracy, seconds, megabytes in figures.values())
    assert [*place.iterdir(), *temporary.glob("*/fedspine")] == []  # nothing is left behind

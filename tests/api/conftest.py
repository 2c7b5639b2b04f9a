"""A place to run things in, and tables that are as they were afterwards."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedcore.core.aggregation.table import AGGREGATORS
from fedcore.core.bandit.table import BANDITS
from fedcore.strategies.table import STRATEGIES
from tests.tiny_run import write_model


@pytest.fixture(autouse=True)
def _tables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget what a test registers, and where it did."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for table in (STRATEGIES, AGGREGATORS, BANDITS):
        for name in table.own:
            table.remove(name)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, with a home of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


@pytest.fixture
def untrained(place: Path) -> dict[str, Any]:
    """Tables of a simulation that trains nothing."""
    write_model(place / "model")
    return untrained_tables()


def untrained_tables() -> dict[str, Any]:
    return {
        "run": {"name": "none", "rounds": 3},
        "model": {"path": "model", "max_length": 8},
        "strategy": {"ranks": [1, 2], "warmup_rounds": 1, "recovery_rounds": 1},
        "simulation": {"training": "none"},
        "fleet": {"class": [{"name": "big", "count": 2, "target_sparsity": 0.25}, {"name": "small", "slowdown": 4}]},
    }


class Command:
    """The command line, as a process in the working folder."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "fedcore", *words], cwd=self._place, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def command(place: Path) -> Command:
    return Command(place)

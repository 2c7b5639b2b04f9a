"""--plugin: a module that registers parts of one's own, imported before a command begins."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedcore.strategies.table import STRATEGIES
from tests.cli.conftest import Fedcore

PLUGIN = """
import fedcore

@fedcore.strategy("mine")
def mine(config):
    return fedcore.unpruned(config, aggregator="factor-mean", ranks=(2,))
"""
UNTRAINED = ("--set", "simulation.training=none", "--set", "run.rounds=1", "--run-dir", "run")


@pytest.fixture
def plugin(place: Path) -> Path:
    path = place / "own_plugin.py"
    path.write_text(PLUGIN)
    return path


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget the module, its folder and what it registered."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("own_plugin", None)
    for name in STRATEGIES.own:
        STRATEGIES.remove(name)


def test_a_strategy_of_ones_own_by_its_name(fedcore: Fedcore, place: Path, plugin: Path) -> None:
    said = fedcore("simulate", "cfg.toml", "--plugin", "own_plugin.py", "--set", "strategy.name=mine", *UNTRAINED)
    assert said.code == 0, said.err
    assert (place / "run" / "summary.json").is_file()
    assert fedcore("show", "run", "--replay", "--plugin", plugin).code == 0


def test_without_it_the_name_is_unknown(fedcore: Fedcore, plugin: Path) -> None:
    said = fedcore("simulate", "cfg.toml", "--set", "strategy.name=mine", *UNTRAINED)
    assert said.code == 1
    assert said.err.startswith("error: strategy.name: expected one of fedspine, ")


@pytest.mark.parametrize("command", ["simulate", "fleet", "serve"])
def test_a_module_that_is_nowhere_is_told(fedcore: Fedcore, place: Path, command: str) -> None:
    said = fedcore(command, "cfg.toml", "--plugin", "own_plugin")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("error: no module 'own_plugin' for plugin own_plugin: looked on PYTHONPATH")
    assert said.err.count("\n") == 1

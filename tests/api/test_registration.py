"""Parts of one's own: what may be registered, what a configuration then finds, and what a wrong one is told."""

import inspect
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import fedcore
from fedcore.core.aggregation.factor_mean import FactorMean
from fedcore.core.aggregation.table import make_aggregator
from fedcore.core.bandit.fixed import FixedArm
from fedcore.core.bandit.table import make_bandit
from fedcore.core.errors import ConfigError
from fedcore.strategies.policy.policy import Policy
from fedcore.strategies.table import STRATEGIES, bandit_of, make_strategy, resolve_settings
from tests.tiny_run import MODEL, geometry_from_config

DECORATORS: Mapping[str, Callable[..., Any]] = {
    "strategy": fedcore.strategy,
    "aggregator": fedcore.aggregator,
    "bandit": fedcore.bandit,
}


def named(name: str, **more: str) -> fedcore.Config:
    config = fedcore.Config()
    return replace(config, strategy=replace(config.strategy, name=name, **more))


def mine(config: fedcore.Config) -> fedcore.Config:
    return fedcore.unpruned(config, aggregator="hetlora")


def test_a_strategy_is_named_like_a_shipped_one() -> None:
    assert fedcore.strategy("mine", cites="arXiv 0000.00000")(mine) is mine  # to be called and tested as it is
    resolved = resolve_settings(named("mine"))
    assert (resolved.strategy.aggregator, resolved.strategy.bandit) == ("hetlora", "fixed")
    assert resolved.strategy.ranks == named("mine").strategy.ranks
    assert resolved.strategy.target_sparsity == 0.0
    assert (STRATEGIES["mine"].cites, STRATEGIES["mine"].name) == ("arXiv 0000.00000", "mine")
    assert make_strategy(named("mine"), geometry_from_config(MODEL), []).name == "mine"


def test_an_unknown_name_is_told_all_others() -> None:
    fedcore.strategy("mine")(mine)
    fedcore.bandit("calm")(lambda config: FixedArm(name="calm", sparsity=0.0, rank=4))
    fedcore.aggregator("half")(lambda server_lr, seed: FactorMean(name="half", server_lr=server_lr / 2))
    with pytest.raises(ConfigError, match=r"strategy.name: expected one of fedspine, .*, fedex-lora, mine; got 'min'"):
        resolve_settings(named("min"))
    with pytest.raises(ConfigError, match=r"strategy.bandit: expected one of s-ucb, .*, random, calm; got 'clam'"):
        make_bandit(named("fedspine", bandit="clam").strategy)
    with pytest.raises(ConfigError, match=r"strategy.aggregator: expected one of .*, fedex-lora, half; got 'whole'"):
        make_aggregator("whole")


def test_the_parts_of_a_method_come_with_the_decorator() -> None:
    def ranks(config: fedcore.Config, cost: object) -> Mapping[str, tuple[int, ...]]:
        return {each.name: config.strategy.ranks[:1] for each in config.classes}

    adapted: list[Policy] = []

    def adapt(policy: Policy) -> fedcore.Strategy:
        adapted.append(policy)
        return replace(policy, name="mine, adapted")

    fedcore.strategy("mine", class_ranks=ranks, adapt=adapt)(mine)
    config = fedcore.load_config({"strategy": {"name": "mine"}, "fleet": {"class": [{"name": "phone"}]}})
    made = make_strategy(config, geometry_from_config(MODEL), [])
    assert made.name == "mine, adapted"
    assert adapted[0].class_ranks == {"phone": (4,)}


def test_a_bandit_and_an_aggregator_are_made_of_the_run_s_settings() -> None:
    @fedcore.bandit("calm")
    def calm(config: fedcore.StrategyConfig) -> fedcore.Bandit:
        return FixedArm(name="calm", sparsity=0.125, rank=config.ranks[0])

    @fedcore.aggregator("half")
    def half(server_lr: float, seed: int) -> fedcore.Aggregator[Any]:
        return FactorMean(name="half", server_lr=server_lr / 2)

    assert bandit_of(named("fedspine", bandit="calm")) == FixedArm(name="calm", sparsity=0.125, rank=4)
    made = make_aggregator("half", server_lr=0.5, seed=3)
    assert isinstance(made, FactorMean)
    assert (made.name, made.server_lr) == ("half", 0.25)


@pytest.mark.parametrize("what", DECORATORS)
def test_a_name_is_given_once(what: str) -> None:
    register = DECORATORS[what]
    register("mine")(mine)
    with pytest.raises(ConfigError, match=f"^{what} 'mine' is registered already; choose another name$"):
        register("mine")(mine)


@pytest.mark.parametrize(("what", "shipped"), [("strategy", "fedspine"), ("aggregator", "flora"), ("bandit", "linucb")])
def test_a_shipped_name_is_taken(what: str, shipped: str) -> None:
    with pytest.raises(ConfigError, match=f"^{what} '{shipped}' comes with fedcore; choose another name$"):
        DECORATORS[what](shipped)


@pytest.mark.parametrize("what", DECORATORS)
def test_forgotten_brackets_are_told(what: str) -> None:
    with pytest.raises(ConfigError, match=f"^{what}: expected a name in quotes, .*, got <function mine"):
        DECORATORS[what](mine)
    with pytest.raises(ConfigError, match=f"^{what} 'mine': expected a function to register, got int"):
        DECORATORS[what]("mine")(3)


def test_a_strategy_without_a_config_is_told() -> None:
    fedcore.strategy("mine")(lambda config: None)  # type: ignore[arg-type, return-value]
    message = r"^strategy 'mine': expected a Config, got nothing \(is there a return\?\); return a changed copy"
    with pytest.raises(ConfigError, match=message):
        resolve_settings(named("mine"))


def test_a_bandit_that_is_none_is_told_what_it_lacks() -> None:
    fedcore.bandit("mine")(lambda config: object())  # type: ignore[arg-type, return-value]
    message = "^bandit 'mine': expected a fedcore.Bandit, got object without name, start, select, observe$"
    with pytest.raises(ConfigError, match=message):
        bandit_of(named("fedspine", bandit="mine"))


def test_an_aggregator_carries_the_name_it_is_registered_by() -> None:
    """Edges make the aggregator by the name that came with their share."""
    fedcore.aggregator("mine")(lambda server_lr, seed: FactorMean())
    message = "^aggregator 'mine': what its function returns is called 'factor-mean'; give it the same name$"
    with pytest.raises(ConfigError, match=message):
        make_aggregator("mine")


def test_a_cell_that_is_run_again_replaces_what_it_defined() -> None:
    program = """
import fedcore
cell = "@fedcore.strategy('mine')\\ndef mine(config):\\n    return config"
exec(cell)
exec(cell)
exec(cell.replace("def mine", "def other"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines()[-1].endswith("strategy 'mine' is registered already; choose another name")
    assert "line 6, in <module>" in done.stderr


def test_own_parts_take_few_lines() -> None:
    example = (Path(__file__).parents[2] / "examples" / "own_strategy.py").read_text(encoding="utf-8")
    for decorator in ("@fedcore.strategy", "@fedcore.aggregator", "@fedcore.bandit"):
        block = inspect.getblock([f"{line}\n" for line in example[example.index(decorator) :].splitlines()])
        assert 4 <= len(block) <= 12

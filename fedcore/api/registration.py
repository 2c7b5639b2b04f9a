"""Strategies, aggregators and bandits of one's own: decorators that add them to the tables of this process.

A configuration names an entry as it names a shipped one. Nothing is registered but by calling one of these.
"""

import sys
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

from fedcore.core.aggregation.table import AGGREGATORS, AggregatorFactory
from fedcore.core.bandit.table import BANDITS, BanditFactory
from fedcore.core.config.tables import Config, StrategyConfig
from fedcore.core.contract.protocols import Aggregator, Bandit, Strategy
from fedcore.core.errors import ConfigError
from fedcore.core.model.geometry import Geometry
from fedcore.strategies.composition.method import Method
from fedcore.strategies.policy.cost import RoundCost
from fedcore.strategies.policy.part_choice import PartChoice
from fedcore.strategies.policy.policy import Policy
from fedcore.strategies.table import STRATEGIES

Settings = Callable[[Config], Config]
S = TypeVar("S", bound=Settings)
A = TypeVar("A", bound=AggregatorFactory)
B = TypeVar("B", bound=BanditFactory)


def unchanged(policy: Policy) -> Strategy:
    """Return the policy as it is composed."""
    return policy


def strategy(
    name: str,
    *,
    cites: str = "",
    class_ranks: Callable[[Config, RoundCost], Mapping[str, tuple[int, ...]]] | None = None,
    part: Callable[[Geometry], PartChoice] | None = None,
    adapt: Callable[[Policy], Strategy] = unchanged,
) -> Callable[[S], S]:
    """Register the decorated function as the strategy `name`.

    It takes the run's `Config` and returns the one its parts are made by: which bandit, aggregator, ranks and targets.
    `class_ranks`, `part` and `adapt` are those of `fedcore.Method`; `cites` names the source, as text.
    Raises ConfigError for a name that is malformed or taken; a run raises it where no Config comes back.

        @fedcore.strategy("plain-hetlora", cites="arXiv 2401.06432")
        def plain_hetlora(config: fedcore.Config) -> fedcore.Config:
            return fedcore.unpruned(config, aggregator="hetlora")
    """
    STRATEGIES.check_name(name)

    def register(settings: S) -> S:
        _check_callable("strategy", name, settings)

        @wraps(settings)
        def checked(config: Config) -> Config:
            resolved: object = settings(config)
            if not isinstance(resolved, Config):
                raise ConfigError(
                    f"strategy {name!r}: expected a Config, got {_described(resolved)}; return a changed copy of the "
                    'one that was passed, such as fedcore.unpruned(config, aggregator="hetlora")'
                )
            return resolved

        method = Method(name=name, settings=checked, class_ranks=class_ranks, part=part, adapt=adapt, cites=cites)
        STRATEGIES.add(name, method, replace=_defined_again(STRATEGIES.own.get(name), settings))
        return settings

    return register


def aggregator(name: str) -> Callable[[A], A]:
    """Register the decorated function as the aggregator `name`.

    It takes (server_lr, seed) and returns a `fedcore.Aggregator` that is called `name`.
    Raises ConfigError for a name that is malformed or taken; a run raises it where something else comes back.

        @fedcore.aggregator("half-step")
        def half_step(server_lr: float, seed: int) -> fedcore.Aggregator[Any]:
            return FactorMean(name="half-step", server_lr=server_lr / 2)
    """
    AGGREGATORS.check_name(name)

    def register(factory: A) -> A:
        _check_callable("aggregator", name, factory)

        @wraps(factory)
        def checked(server_lr: float, seed: int) -> Aggregator[Any]:
            made = factory(server_lr, seed)
            _check_made("aggregator", name, made, Aggregator)
            return made

        AGGREGATORS.add(name, checked, replace=_defined_again(AGGREGATORS.own.get(name), factory))
        return factory

    return register


def bandit(name: str) -> Callable[[B], B]:
    """Register the decorated function as the bandit `name`.

    It takes the `fedcore.StrategyConfig` of a run and returns a `fedcore.Bandit` that is called `name`.
    Raises ConfigError for a name that is malformed or taken; a run raises it where something else comes back.

        @fedcore.bandit("cautious")
        def cautious(config: fedcore.StrategyConfig) -> fedcore.Bandit:
            return FixedArm(name="cautious", sparsity=0.1, rank=config.ranks[0])
    """
    BANDITS.check_name(name)

    def register(factory: B) -> B:
        _check_callable("bandit", name, factory)

        @wraps(factory)
        def checked(config: StrategyConfig) -> Bandit:
            made = factory(config)
            _check_made("bandit", name, made, Bandit)
            return made

        BANDITS.add(name, checked, replace=_defined_again(BANDITS.own.get(name), factory))
        return factory

    return register


def _check_callable(what: str, name: str, given: object) -> None:
    if not callable(given):
        raise ConfigError(f"{what} {name!r}: expected a function to register, got {_described(given)}")


def _check_made(what: str, name: str, made: object, seam: type) -> None:
    """Raise ConfigError unless `made` has every public member of the protocol `seam`, and the registered name."""
    lacking = [member for member in vars(seam) if not member.startswith("_") and not hasattr(made, member)]
    if lacking:
        raise ConfigError(
            f"{what} {name!r}: expected a fedcore.{seam.__name__}, got {_described(made)} without {', '.join(lacking)}"
        )
    called = getattr(made, "name", None)
    if called != name:
        raise ConfigError(f"{what} {name!r}: what its function returns is called {called!r}; give it the same name")


def _described(value: object) -> str:
    return "nothing (is there a return?)" if value is None else type(value).__name__


def _defined_again(earlier: object, function: object) -> bool:
    """Whether a cell of a notebook, or a line typed at a prompt, is run once more: it replaces what it defined."""
    if isinstance(earlier, Method):
        earlier = earlier.settings
    prompt = not hasattr(sys.modules["__main__"], "__file__")
    return prompt and _place(earlier) == _place(function) and _place(function)[0] == "__main__"


def _place(function: object) -> tuple[str, str]:
    return getattr(function, "__module__", ""), getattr(function, "__qualname__", "")

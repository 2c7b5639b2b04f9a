"""A case: one variant, seed and learning rate on one track, as a resolved configuration with a hash of its own."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fleet80.cases.tracks import Track
from benchmarks.fleet80.cases.variants import Variant
from benchmarks.report import RESULTS
from fedcore.core.aggregation.table import make_aggregator
from fedcore.core.bandit.table import make_bandit
from fedcore.core.config.auto import recovery_rounds, warmup_rounds
from fedcore.core.config.tables import TABLES, ClassConfig, Config
from fedcore.core.config.toml import parse_config
from fedcore.strategies.table import resolve_settings

TUNING_SEED = 100  # no seed that results are told of
TUNING_SHARE = 3  # a tuning run has a third of the rounds, warm-up and recovery
NEUTRAL = {  # in place of the default: what results were stored with before the key, or under an earlier default
    ("training", "handout"): "whole",
    ("training", "learning_rate"): 2e-3,
    ("training", "local_steps"): 10,
    ("strategy", "warmup_rounds"): 2,
    ("strategy", "recovery_rounds"): 2,
}
MACHINE_KEYS = {("simulation", "workers"), ("run", "name")}  # change no result
FOLDER = RESULTS / "fleet80"
HASH_DIGITS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A run that can be done: `config` is resolved; `tuning` is one of a search for a learning rate."""

    track: Track
    variant: Variant
    seed: int
    rate: float
    tuning: bool
    config: Config

    @property
    def hash(self) -> str:
        """Of everything that differs from the defaults, so that a new key changes no hash by being there."""
        text = json.dumps(changed(self.config), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS]

    @property
    def name(self) -> str:
        """The name of its files."""
        if self.tuning:
            return f"{self.variant.name}-rate{self.rate:g}-{self.hash}"
        return f"{self.variant.name}-seed{self.seed}-{self.hash}"

    def path(self, base: Path = FOLDER) -> Path:
        """Where its result is stored."""
        folder = base / self.track.name
        return (folder / "tuning" if self.tuning else folder) / f"{self.name}.json"


def make_case(
    track: Track,
    variant: Variant,
    *,
    seed: int,
    rate: float,
    tuning: bool = False,
    overrides: tuple[str, ...] = (),
) -> Case:
    """Return a variant's case; raises ConfigError for a strategy or key that this version does not know.

    `overrides` come last: smaller runs for a look.
    """
    settings = [*_settings(variant, seed, rate), *variant.overrides, *track.schedule, *overrides]
    config = parse_config(track.text(), settings)
    if tuning:
        config = _shortened(config)
    make_bandit(config.strategy)  # as `fedcore.server.run.preflight.check_run`, which needs the model
    make_aggregator(config.strategy.aggregator)
    resolved = resolve_settings(config)
    return Case(track=track, variant=variant, seed=seed, rate=rate, tuning=tuning, config=resolved)


def changed(config: Config) -> dict[str, Any]:
    """Return every value that is not the default, by table and key, but for those that change no result."""
    tables: dict[str, Any] = {name: _changed(name, getattr(config, name)) for name in TABLES}
    tables["class"] = [_changed("class", kind) for kind in config.classes]
    return {name: values for name, values in tables.items() if values}


def _settings(variant: Variant, seed: int, rate: float) -> list[str]:
    return [f"strategy.name={variant.strategy}", f"run.seed={seed}", f"training.learning_rate={rate}"]


def _shortened(config: Config) -> Config:
    strategy = dataclasses.replace(
        config.strategy,
        warmup_rounds=max(1, warmup_rounds(config) // TUNING_SHARE),
        recovery_rounds=recovery_rounds(config) // TUNING_SHARE,
    )
    run = dataclasses.replace(config.run, rounds=max(1, round(config.run.rounds / TUNING_SHARE)))
    return dataclasses.replace(config, strategy=strategy, run=run)


def _changed(name: str, table: Any) -> dict[str, Any]:
    kind: Any = ClassConfig if name == "class" else type(table)
    defaults = {field.name: NEUTRAL.get((name, field.name), field.default) for field in dataclasses.fields(kind)}
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, default in defaults.items()
        if (value := getattr(table, key)) != default and (name, key) not in MACHINE_KEYS
    }

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.fleet80.cases.case import Case, changed, make_case
from benchmarks.fleet80.cases.tracks import TRACKS
from benchmarks.fleet80.cases.variants import VARIANTS, Variant
from fedcore.core.config.tables import Config
from fedcore.core.errors import ConfigError
from fedcore.strategies.table import STRATEGIES

FAST = TRACKS["fast"]


def case(name: str = "fedspine", *, seed: int = 0, rate: float = 2e-3, tuning: bool = False) -> Case:
    return make_case(FAST, VARIANTS[name], seed=seed, rate=rate, tuning=tuning)


@pytest.mark.parametrize("track", TRACKS.values(), ids=TRACKS)
@pytest.mark.parametrize("name", ["fedspine", "fedit", "uniform", "random-arms", "by-class"])
def test_the_core_of_the_table_resolves_on_every_track(track, name) -> None:  # type: ignore[no-untyped-def]
    config = make_case(track, VARIANTS[name], seed=1, rate=1e-3).config
    assert sum(kind.count for kind in config.classes) == 80
    assert {kind.name: kind.count for kind in config.classes} == {"tx2": 30, "nx": 40, "agx": 10}
    assert config.strategy.name in STRATEGIES
    small = track.name == "write"  # a run of a model of thirty layers has to end in minutes
    assert (6 if small else 10) <= config.strategy.cohort <= 16
    assert config.run.rounds >= (8 if small else 20)
    assert (config.run.seed, config.training.learning_rate) == (1, 1e-3)


def test_the_write_track_compares_methods_under_one_schedule() -> None:
    track = TRACKS["write"]
    configs = [make_case(track, VARIANTS[name], seed=0, rate=1e-3).config for name in track.variants]
    assert {"fedspine", "fedavg-lora", "hetlora", "ffa-lora", "flora"} <= {each.strategy.name for each in configs}
    for config in configs:
        assert (config.task.kind, config.data.partition) == ("generation", "by:language")
        assert config.strategy.warmup_rounds == 2
    fedspine, uniform = configs[0], configs[track.variants.index("uniform")]
    assert fedspine.strategy.recovery_rounds == 2 and uniform.strategy.recovery_rounds == 8  # it cuts once


def test_every_line_names_a_rate_that_is_searched_for() -> None:
    for variant in VARIANTS.values():
        assert not VARIANTS[variant.tuned_as or variant.name].tuned_as


def test_a_line_this_version_does_not_know_is_told_as_such() -> None:
    with pytest.raises(ConfigError, match=r"strategy\.name"):
        make_case(FAST, Variant(name="x", strategy="not-yet"), seed=0, rate=1e-3)
    with pytest.raises(ConfigError, match=r"strategy\.not_yet"):
        make_case(FAST, Variant(name="x", strategy="fedspine", overrides=("strategy.not_yet=1",)), seed=0, rate=1e-3)
    with pytest.raises(ConfigError, match="bandit"):
        make_case(FAST, Variant(name="x", strategy="fedspine", overrides=("strategy.bandit=no",)), seed=0, rate=1e-3)


def test_equal_cases_have_equal_hashes_and_different_ones_do_not() -> None:
    assert case().hash == case().hash
    others = [case(seed=1), case(rate=1e-3), case("fedit"), case("by-class"), case(tuning=True)]
    assert len({case().hash, *(other.hash for other in others)}) == 6


def test_a_hash_depends_on_what_is_changed_alone() -> None:
    # The hash of an empty configuration: a key added with a default that changes nothing keeps every hash. Hand-outs
    # were whole when the first results were stored, and rates, steps and schedules were numbers.
    first = Config()
    training = replace(first.training, handout="whole", learning_rate=2e-3, local_steps=10)
    strategy = replace(first.strategy, warmup_rounds=2, recovery_rounds=2)
    assert changed(replace(first, training=training, strategy=strategy)) == {}
    assert changed(case("fedspine-kept").config)["training"]["handout"] == "kept"
    renamed = replace(case(), config=replace(case().config, run=replace(case().config.run, name="other")))
    workers = replace(case(), config=replace(case().config, simulation=replace(case().config.simulation, workers=0)))
    assert renamed.hash == workers.hash == case().hash


def test_a_search_takes_a_third_of_the_rounds_and_lies_apart() -> None:
    short = case(tuning=True)
    assert short.config.run.rounds == 7
    assert short.config.strategy.warmup_rounds == 1
    assert short.path(Path("r")).parent == Path("r/fast/tuning")
    assert case().path(Path("r")) == Path(f"r/fast/fedspine-seed0-{case().hash}.json")

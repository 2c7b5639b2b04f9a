"""The cases compared, and one of them simulated: MiniLM on movie reviews, eight devices, every one in every round."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from fedcore.core.config.tables import Config
from fedcore.core.config.toml import parse_config
from fedcore.core.contract.protocols import Json
from fedcore.server.run.run import Run
from fedcore.server.run.run_folder import RunFolder
from fedcore.simulation.run import simulate
from fedcore.simulation.setup import read_setup

FEDIT, DILOCO = "fedavg-lora", "diloco"
CODECS = ("bf16+zstd", "ef+int8+zstd", "ef+int4+zstd")
LOCAL_STEPS = (10, 30)
STEPS = 90  # optimiser steps of a device in all, whatever its rounds
RATES = {FEDIT: 4e-3, DILOCO: 4e-3}  # the best of those searched, for both
TUNED_RATES = (2e-3, 4e-3, 8e-3)
TUNING_SEED = 100

CONFIG = """
[run]
name = "diloco"
[model]
path = "fetch:minilm"
max_length = 32
[data]
train = "fetch:movies"
test_fraction = 0.03
[strategy]
ranks = [8]
target_sparsity = 0.0
[training]
batch_size = 4
keep_optimizer = true
[evaluation]
rows_per_round = 200
[simulation]
exports = false
workers = 1
[[fleet.class]]
name = "device"
count = 8
slowdown = 4.0
uplink_mbps = 5.0
downlink_mbps = 20.0
"""
QUICK = ("fleet.class.device.count=2", "evaluation.rows_per_round=20", "data.test_fraction=0.003", "data.shards=200")
QUICK_STEPS, QUICK_LOCAL_STEPS = 10, (5,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run; moments of AdamW stay on the devices in all of them, so that the outer step is what differs."""

    strategy: str
    local_steps: int
    codec: str
    learning_rate: float
    seed: int = 0
    steps: int = STEPS

    @property
    def name(self) -> str:
        """What tables and legends call it."""
        title = "FedIT" if self.strategy == FEDIT else "DiLoCo"
        return f"{title} H={self.local_steps} {self.codec}"

    def config(self, overrides: tuple[str, ...] = ()) -> Config:
        """Return its configuration."""
        settings = (
            f"strategy.name={self.strategy}",
            f"training.local_steps={self.local_steps}",
            f"training.codec={self.codec}",
            f"training.learning_rate={self.learning_rate}",
            f"run.seed={self.seed}",
            f"run.rounds={max(1, self.steps // self.local_steps)}",
        )
        return parse_config(CONFIG, (*settings, *overrides))


def cases(steps: int = STEPS, local_steps: tuple[int, ...] = LOCAL_STEPS) -> list[Case]:
    """Return FedIT with the default codec, and DiLoCo with every one, at every number of local steps."""
    return [
        Case(strategy=strategy, local_steps=local, codec=codec, learning_rate=RATES[strategy], steps=steps)
        for strategy, codecs in ((FEDIT, CODECS[:1]), (DILOCO, CODECS))
        for local in local_steps
        for codec in codecs
    ]


def tuning_cases(steps: int = STEPS) -> list[Case]:
    """Return the search for both strategies' learning rates: a third of the length, on a seed of its own."""
    return [
        Case(
            strategy=strategy,
            local_steps=LOCAL_STEPS[0],
            codec=CODECS[0],
            learning_rate=rate,
            seed=TUNING_SEED,
            steps=max(LOCAL_STEPS[0], steps // 3),
        )
        for strategy in (FEDIT, DILOCO)
        for rate in TUNED_RATES
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Where a run stood after a round (0: untrained), everything summed from its beginning."""

    round: int
    bytes_up: int
    bytes_down: int
    virtual_s: float
    loss: float
    accuracy: float


def simulated(case: Case, overrides: tuple[str, ...] = ()) -> list[Point]:
    """Run a case and return its points, the untrained one first."""
    with tempfile.TemporaryDirectory() as place:
        setup = read_setup(case.config(overrides))
        folder = RunFolder.create("run", base=Path(place))
        return points(simulate(setup, Run.create(folder, setup.config, setup.model)))


def points(summary: Json) -> list[Point]:
    """Read a run's points off its summary."""
    untrained = summary["global"]["untrained"]
    found = [
        Point(round=0, bytes_up=0, bytes_down=0, virtual_s=0.0, loss=untrained["loss"], accuracy=untrained["accuracy"])
    ]
    for record in summary["rounds"]:
        before = found[-1]
        found.append(
            Point(
                round=record["round"],
                bytes_up=before.bytes_up + record["bytes_up"],
                bytes_down=before.bytes_down + record["bytes_down"],
                virtual_s=before.virtual_s + record["duration_s"],
                loss=record["loss"],
                accuracy=record["accuracy"],
            )
        )
    return found

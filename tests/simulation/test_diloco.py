"""Devices that leave and join between two outer steps: the momentum stays."""

import math
import zlib
from pathlib import Path

import numpy as np
import pytest

from fedcore.simulation.fleet.availability import Traces
from tests.simulation.rounds.test_driver import TIMED, outcomes
from tests.simulation.virtual import Simulated, prepare

ROUNDS = 6  # of 2.8 virtual seconds each
SETTINGS = ("strategy.name=diloco", f"run.rounds={ROUNDS}", "coordinator.lease_s=1.0", "training.codec=identity")
SPANS = {"a-0": ((0.0, math.inf),), "a-1": ((0.0, 6.5),), "a-2": ((9.0, math.inf),)}


def simulated(root: Path, *, resume: bool = False) -> Simulated:
    kind = TIMED.replace("count = 4", "count = 3")
    return prepare(root, kind, SETTINGS, traces=Traces(spans=SPANS), resume=resume)


def increment(device: str, number: int) -> float:
    """Return the value of every entry of a `NamedWorkload` increment."""
    return 1e-5 * (1 + zlib.crc32(f"{device}/{number}".encode()) % 97)


def test_the_momentum_continues_when_one_device_leaves_and_another_joins(tmp_path: Path) -> None:
    made = simulated(tmp_path / "run")
    start = {name: value.copy() for name, value in made.engine.model.tensors.items()}
    made.run()
    counted = {
        number: {row["device"] for row in rows if row["status"] == "accepted"}
        for number, rows in outcomes(made.folder).items()
    }
    assert counted[1] == counted[2] == {"a-0", "a-1"} and counted[3] == {"a-0"}
    assert counted[5] == counted[6] == {"a-0", "a-2"}
    velocity = moved = 0.0
    for number in range(1, ROUNDS + 1):
        mean = float(np.mean([increment(device, number) for device in sorted(counted[number])]))
        velocity = 0.9 * velocity + mean
        moved += 0.7 * (0.9 * velocity + mean)
    assert made.engine.model.velocity is not None
    for name, value in made.engine.model.tensors.items():
        np.testing.assert_allclose(made.engine.model.velocity[name], np.full(value.shape, velocity), atol=1e-6)
        np.testing.assert_allclose(value, start[name] + np.float32(moved), atol=1e-6)


@pytest.mark.parametrize("broken_after", [2, 3, 5])
def test_a_run_interrupted_between_outer_steps_keeps_the_momentum(tmp_path: Path, broken_after: int) -> None:
    whole, broken = simulated(tmp_path / "whole"), simulated(tmp_path / "broken")
    whole.run()

    def stop() -> None:
        if broken.engine.model.adapter.round == broken_after:
            raise KeyboardInterrupt

    broken.driver.on_closed = stop
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    again = simulated(tmp_path / "broken", resume=True)
    assert again.engine.model.velocity is not None
    again.run()
    assert again.engine.model.digest == whole.engine.model.digest
    assert again.engine.model.velocity_digest == whole.engine.model.velocity_digest != ""

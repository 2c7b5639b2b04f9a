"""Whole simulated runs on the make-believe accelerator, against the CPU.

`tests/nn/test_fake_device.py` runs this file in a process of its own.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedcore.core.config.toml import parse_config
from fedcore.core.errors import RunError
from fedcore.server.run.journal import read_events
from fedcore.server.run.run import Run
from fedcore.server.run.run_folder import RunFolder
from fedcore.simulation.run import simulate
from fedcore.simulation.setup import read_setup
from tests.fake_accelerator import NAME, install
from tests.simulation.test_run import CONFIG, adapter
from tests.tiny_models import tiny_model
from tests.whole.stage import texts

MODULE = install()


def run(text: str, root: Path, device: str, overrides: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    root.mkdir()
    setup = replace(read_setup(parse_config(text, overrides)), device=device)
    summary = simulate(setup, Run.create(RunFolder(root), setup.config, setup.model))
    return summary, adapter(root)


@pytest.fixture
def scarce() -> Iterator[None]:
    """Give the accelerator back its memory afterwards."""
    total = MODULE.total_bytes
    yield
    MODULE.total_bytes = total


SCARCE = 0.36  # of what a run takes: the base and its evaluation fit, no step does
SMALL = ("run.rounds=2", "training.learning_rate=0.001", "fleet.class.big.count=1", "fleet.class.small.count=2")


@pytest.mark.parametrize(
    "overrides",
    [
        ("simulation.training=batched", "training.keep_optimizer=true", "training.importance=lora-taylor"),
        ("simulation.training=one-by-one", "training.distill=0.5", "training.importance=l0"),
    ],
    ids=" ".join,
)
def test_a_simulated_run_is_that_of_the_cpu(overrides: tuple[str, ...], tmp_path: Path) -> None:
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *texts(("neg", "pos"), 80)])
    text = CONFIG.format(model=tiny_model(tmp_path / "bert", "bert"), rows=tmp_path / "rows.csv")
    (expected, on_cpu), (summary, on_device) = (
        run(text, tmp_path / name, name, SMALL + overrides) for name in ("cpu", NAME)
    )
    assert on_device.keys() == on_cpu.keys()
    for name, value in on_cpu.items():
        np.testing.assert_allclose(on_device[name], value, rtol=1e-3, atol=1e-4, err_msg=name)
    assert summary["global"]["final"]["loss"] == pytest.approx(expected["global"]["final"]["loss"], abs=1e-4)
    assert [row["loss"] for row in summary["rounds"]] == pytest.approx(
        [row["loss"] for row in expected["rounds"]], abs=1e-4
    )
    assert MODULE.max_memory_allocated() > 0


def test_running_out_of_memory_is_learned_as_on_a_real_device(scarce: None, tmp_path: Path) -> None:
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *texts(("neg", "pos"), 80)])
    text = CONFIG.format(model=tiny_model(tmp_path / "bert", "bert"), rows=tmp_path / "rows.csv")
    MODULE.reset_peak_memory_stats()
    run(text, tmp_path / "roomy", NAME, ("run.rounds=1", *SMALL[1:]))
    MODULE.total_bytes = int(SCARCE * MODULE.max_memory_allocated())
    with pytest.raises(RunError, match="3 rounds in a row missed quorum"):  # every device at once
        run(text, tmp_path / "scarce", NAME, SMALL)
    events = list(read_events(tmp_path / "scarce" / "events.jsonl"))
    failed = [event for event in events if event["event"] == "failed"]
    assert len(failed) >= 6 and all(event["out_of_memory"] for event in failed)
    assert all("MiB are free" in event["message"] for event in failed)
    ceilings = [event["ceiling_mb"] for event in events if event["event"] == "memory_ceiling"]
    assert len(ceilings) == len(failed) and ceilings[0] > ceilings[-1]

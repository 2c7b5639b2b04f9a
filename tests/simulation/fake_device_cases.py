"""Whole simulated runs on the make-believe accelerator, against the CPU.

`tests/nn/test_fake_device.py` runs this file in a process of its own.
"""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedcore.core.config.toml import parse_config
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

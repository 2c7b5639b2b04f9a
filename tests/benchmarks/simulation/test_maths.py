from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.simulation import mlp, ours
from benchmarks.simulation.cases import prepare
from benchmarks.simulation.learners import make_learner
from benchmarks.simulation.mlp_workload import sgd_step
from benchmarks.simulation.task import read_case, train_client


@pytest.fixture
def case(tmp_path: Path) -> Path:
    prepare("mlp", 3, 2, tmp_path / "case")
    return tmp_path / "case"


def test_a_case_reads_back_as_it_was_written(case: Path):
    read = read_case(case)
    assert (read.task, read.clients, read.rounds, read.recipe) == ("mlp", 3, 2, mlp.RECIPE)


def test_equal_seeds_give_equal_data():
    one, other = mlp.make_data(2, 7), mlp.make_data(2, 7)
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert one["x"].shape == (2, 30, 64) and one["y"].max() < 10


def test_everybodys_step_at_once_is_everybodys_own(case: Path):
    learner = make_learner(case)
    first = learner.tensors()
    values = {name: torch.from_numpy(np.stack([value] * 3)) for name, value in first.items()}
    rows = [torch.stack([learner.rows(client)[part] for client in range(3)]) for part in (0, 1)]
    losses = [sgd_step(values, *batch, 0.1) for batch in zip(*(row.split(10, 1) for row in rows), strict=True)]
    alone = learner.module.loss(*(row[:10] for row in learner.rows(1))).item()
    assert losses[0][1].item() == pytest.approx(alone, abs=1e-6)
    for client in range(3):
        _put(learner, first)
        train_client(learner, mlp.RECIPE, client)
        for name, value in learner.tensors().items():
            assert np.abs(value - values[name][client].numpy()).max() < 1e-6


def test_our_simulator_gives_the_mean_of_plain_loops(case: Path):
    ours.run(case)
    learner, rounds = make_learner(case), 2
    for _ in range(rounds):
        before, trained = learner.tensors(), []
        for client in range(3):
            _put(learner, before)
            train_client(learner, mlp.RECIPE, client)
            trained.append(learner.tensors())
        _put(learner, {name: np.mean([tensors[name] for tensors in trained], axis=0) for name in before})
    with np.load(case / "ours.npz") as found:
        assert max(np.abs(found[name] - value).max() for name, value in learner.tensors().items()) < 1e-6


def _put(learner, tensors):
    with torch.no_grad():
        for name, parameter in learner.trainable().items():
            parameter.copy_(torch.from_numpy(tensors[name]))

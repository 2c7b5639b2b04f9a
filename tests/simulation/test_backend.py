"""Which backend a setup gets: a curve without rows, real training with them, and in how many processes it runs."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fedcore.client.data.rows import Rows
from fedcore.core.contract.protocols import Json
from fedcore.server.run.run_folder import RunFolder
from fedcore.simulation.backend import PARALLEL_FROM, SimulationBackend, make_backend
from fedcore.simulation.setup import SimulationSetup
from fedcore.simulation.workload import pool
from fedcore.simulation.workload.device_states import DeviceFeedback
from fedcore.simulation.workload.loss_curve import LossCurve
from fedcore.simulation.workload.traffic import ModelledTraffic, RealTraffic
from fedcore.simulation.workload.training import TrainingWorkload
from fedcore.simulation.workload.untrained import CurveWorkload
from tests.simulation.test_setup import setup_of
from tests.tiny_models import tiny_model

CORES = 5
TRAINING = Rows(texts=(("good", ""), ("bad", ""), ("fine", "")), labels=("1", "0", "1"))
TEST = Rows(texts=(("well", ""),), labels=("1",))


def history() -> Iterable[tuple[int, bool, Sequence[Json]]]:
    return ()


def backend(setup: SimulationSetup, root: Path) -> SimulationBackend:
    engine = cast(Any, SimpleNamespace(ledger=SimpleNamespace(iter_outcomes=history)))
    return make_backend(setup, engine, RunFolder(root), cast(Any, None))


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimulationSetup:
    """A setup with three rows; its fleet and adapter are those of another model, which making a backend never reads."""
    monkeypatch.setattr(pool, "cores", lambda: CORES)
    setup = setup_of(tmp_path)
    return replace(
        setup,
        config=replace(setup.config, simulation=replace(setup.config.simulation, training="batched")),
        model=tiny_model(tmp_path / "bert", "bert"),
        training=TRAINING,
        test=TEST,
    )


def test_a_setup_without_rows_follows_its_curve(tmp_path: Path) -> None:
    setup = replace(setup_of(tmp_path, "run.seed=9", "training.local_steps=3"), curve=LossCurve(start=0.5))
    made = backend(setup, tmp_path)
    assert made.evaluation is None
    assert isinstance(made.workload, CurveWorkload) and isinstance(made.traffic, ModelledTraffic)
    cost = made.traffic.cost
    assert (cost.spec, cost.steps_of(1), cost.max_length) == (setup.spec, 3, 8)
    assert made.workload == CurveWorkload(
        curve=LossCurve(start=0.5), cost=cost, largest_rank=2, usual_steps=3, seed=9, history=history
    )


def test_without_a_curve_of_its_own_it_follows_the_usual_one(tmp_path: Path) -> None:
    made = backend(replace(setup_of(tmp_path), curve=None, training=TRAINING), tmp_path)
    assert isinstance(made.workload, CurveWorkload) and made.workload.curve == LossCurve()


def test_a_setup_with_rows_trains_and_measures_on_them(trained: SimulationSetup, tmp_path: Path) -> None:
    made = backend(trained, tmp_path)
    assert isinstance(made.workload, TrainingWorkload) and made.workload.batched
    assert made.workload.spec == trained.spec and made.workload.fleet is trained.fleet
    rows = made.workload.pool.trainer.rows
    assert list(rows.labels) == [1, 0, 1] and made.workload.states.root == RunFolder(tmp_path).devices
    feedback = DeviceFeedback(root=RunFolder(tmp_path).devices, geometry=trained.spec.geometry)
    assert made.traffic == RealTraffic(feedback=feedback)
    assert made.evaluation is not None
    assert (made.evaluation.evaluator.test, made.evaluation.evaluator.train) == (TEST, TRAINING)


@pytest.mark.parametrize(
    ("devices", "cohort", "workers", "training", "expected"),
    [
        (PARALLEL_FROM - 1, 0, 0, "batched", (1, None)),
        (PARALLEL_FROM, 0, 0, "batched", (CORES, 1)),
        (PARALLEL_FROM, PARALLEL_FROM - 1, 0, "batched", (1, None)),
        (PARALLEL_FROM - 1, PARALLEL_FROM, 0, "batched", (1, None)),
        (2, 0, 3, "batched", (3, 1)),
        (2, 0, 0, "one-by-one", (1, 1)),
    ],
)
def test_many_devices_of_a_round_train_in_as_many_processes_as_cores(
    devices: int,
    cohort: int,
    workers: int,
    training: str,
    expected: tuple[int, int | None],
    trained: SimulationSetup,
    tmp_path: Path,
) -> None:
    config = trained.config
    setup = replace(
        trained,
        config=replace(
            config,
            strategy=replace(config.strategy, cohort=cohort),
            simulation=replace(config.simulation, workers=workers, training=training),
        ),
        fleet=replace(trained.fleet, devices=dict.fromkeys(map(str, range(devices)), cast(Any, None))),
    )
    workload = backend(setup, tmp_path).workload
    assert isinstance(workload, TrainingWorkload)
    assert (workload.pool.workers, workload.pool.trainer.threads) == expected
    assert workload.batched is (training == "batched")

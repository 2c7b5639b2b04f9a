"""Flower's own strategies on our coordinator, over real gRPC: the same result as without any wire."""

import random
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ArrayRecord
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Result
from flwr.supercore.task_identity import TaskIdentity

from tests.flower_app import FEATURES, client_app, server_app
from tests.flower_coordinator import serving_app
from tests.flower_strategies import NODES, STRATEGIES
from tests.server.flower.conftest import DirectGrid

ROUNDS = 3
SETTINGS = {"local-steps": 2}
RANDOM = ("LocalDpMod",)  # noise drawn on the devices, whose order is not fixed
NOT_RUN = {"FedXgbBagging", "FedXgbCyclic"}  # of xgboost's trees, which is not installed


def direct(name: str) -> Result:
    """The same rounds without a coordinator."""
    make, mods = STRATEGIES[name]
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    start = ArrayRecord([np.zeros(FEATURES, dtype=np.float32), np.zeros(1, dtype=np.float32)])
    seed()
    return make().start(DirectGrid(client_app(mods), NODES, SETTINGS), start, ROUNDS)


def seed() -> None:
    """Flower samples and draws noise from the global generators."""
    random.seed(0)
    np.random.seed(0)


def values(result: Result) -> np.ndarray:
    return np.concatenate([each.reshape(-1) for each in result.arrays.to_numpy_ndarrays()])


def test_every_strategy_of_flowers_is_in_the_table() -> None:
    known = {name for name in flower.__all__ if name not in ("Result", "Strategy")}
    listed = {type(make()).__name__ for make, _ in STRATEGIES.values()}
    assert known - listed == NOT_RUN


@pytest.mark.parametrize("name", STRATEGIES)
async def test_a_strategy_of_flowers_gives_on_our_coordinator_what_it_gives_without_one(
    name: str, tmp_path: Path
) -> None:
    make, mods = STRATEGIES[name]
    wanted = direct(name)
    results: list[Result] = []
    seed()
    async with serving_app(server_app(make(), results, ROUNDS, nodes=NODES), tmp_path, run_config=SETTINGS) as served:
        for number in range(NODES):
            served.join(f"device-{number}", client_app(mods))
            await served.until("joined", number + 1)
        await served.end()
        assert {await device for device in served.devices.values()} == {"the app has finished"}
    (result,) = results
    assert np.isfinite(values(result)).all()
    tolerance = 0.2 if name in RANDOM else 1e-5
    np.testing.assert_allclose(values(result), values(wanted), atol=tolerance)
    assert result.evaluate_metrics_clientapp[ROUNDS]["eval_loss"] < result.evaluate_metrics_clientapp[1]["eval_loss"]
    assert len(served.events("reply")) == 2 * ROUNDS * NODES and not served.events("task_failed")
    assert not [path for path in (tmp_path / "run" / "blobs").rglob("*") if path.is_file()], "nothing is left"

"""Apps written the older way, NumPyClient and ServerAppComponents, and a secure aggregation workflow of Flower's."""

from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context
from flwr.client import NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server import LegacyContext, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from flwr.serverapp import Grid, ServerApp

from tests.flower_coordinator import serving_app

SIZE = 4


class Adding(NumPyClient):
    """Adds its part's number, plus one, to every weight."""

    def __init__(self, part: int) -> None:
        self.part = part

    def fit(self, parameters, config):  # type: ignore[no-untyped-def]
        return [parameters[0] + np.float32(self.part + 1)], 1, {}

    def evaluate(self, parameters, config):  # type: ignore[no-untyped-def]
        return float(parameters[0].mean()), 1, {"part": self.part}


def older_client(mods: list | None = None) -> ClientApp:  # type: ignore[type-arg]
    return ClientApp(lambda context: Adding(int(context.node_config["partition-id"])).to_client(), mods=mods)


def start() -> list[np.ndarray]:
    return [np.zeros(SIZE, dtype=np.float32)]


async def test_an_app_of_components_and_numpy_clients_runs(tmp_path: Path) -> None:
    kept: list[FedAvg] = []

    class Keeping(FedAvg):
        def aggregate_fit(self, server_round, results, failures):  # type: ignore[no-untyped-def]
            assert not failures
            self.last, metrics = super().aggregate_fit(server_round, results, failures)
            return self.last, metrics

    def server_fn(context: Context) -> ServerAppComponents:
        kept.append(Keeping(initial_parameters=ndarrays_to_parameters(start())))
        return ServerAppComponents(strategy=kept[0], config=ServerConfig(num_rounds=2))

    async with serving_app(ServerApp(server_fn=server_fn), tmp_path) as served:
        for number in range(2):
            served.join(f"device-{number}", older_client())
        await served.end()
    weights = parameters_to_ndarrays(kept[0].last)[0]
    assert weights.tolist() == [3.0] * SIZE, "two rounds, each adding the mean of 1 and 2"


@pytest.mark.long
async def test_secure_aggregation_of_flowers_runs_over_our_coordinator(tmp_path: Path) -> None:
    kept: list[LegacyContext] = []
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        strategy = FedAvg(
            initial_parameters=ndarrays_to_parameters(start()), min_fit_clients=3, min_available_clients=3
        )
        legacy = LegacyContext(context=context, config=ServerConfig(num_rounds=1), strategy=strategy)
        workflow = DefaultWorkflow(fit_workflow=SecAggPlusWorkflow(num_shares=3, reconstruction_threshold=2))
        workflow(grid, legacy)
        kept.append(legacy)

    async with serving_app(app, tmp_path) as served:
        for number in range(3):
            served.join(f"device-{number}", older_client([secaggplus_mod]))
        await served.end()
    (legacy,) = kept
    arrays = legacy.state.array_records["parameters"].to_numpy_ndarrays()
    np.testing.assert_allclose(arrays[0], [2.0] * SIZE, atol=1e-3)  # the mean of 1, 2 and 3, quantised

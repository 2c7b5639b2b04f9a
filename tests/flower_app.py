"""A Flower app as its own quickstart writes one: a linear model by gradient descent, nothing of ours in it."""

import time

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Result, Strategy

FEATURES = 3
TRUE = np.array([1.0, -2.0, 0.5], dtype=np.float32)


def data(partition: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one node: the same relation everywhere, other features."""
    rng = np.random.default_rng(partition)
    features = rng.standard_normal((32, FEATURES)).astype(np.float32)
    return features, features @ TRUE + np.float32(0.25)


def loss(weight: np.ndarray, bias: np.ndarray, partition: int) -> float:
    features, wanted = data(partition)
    return float(np.mean((features @ weight + bias - wanted) ** 2))


def client_app(mods: list[Mod] | None = None) -> ClientApp:
    """Train and evaluate as a quickstart does; the number of messages so far is kept in the node's Context."""
    app = ClientApp()

    @app.train(mods=mods)
    def train(msg: Message, context: Context) -> Message:
        weight, bias = msg.content["arrays"].to_numpy_ndarrays()
        partition = int(context.node_config["partition-id"])
        features, wanted = data(partition)
        for _ in range(int(context.run_config["local-steps"])):
            wrong = features @ weight + bias - wanted
            weight = weight - 0.05 * (features.T @ wrong) / len(wanted)
            bias = bias - 0.05 * wrong.mean(keepdims=True)
        seen = int(context.state.get("seen", MetricRecord({"messages": 0}))["messages"]) + 1
        context.state["seen"] = MetricRecord({"messages": seen})
        metrics = MetricRecord(
            {"train_loss": loss(weight, bias, partition), "num-examples": len(wanted), "messages": seen}
        )
        arrays = ArrayRecord([weight.astype(np.float32), bias.astype(np.float32)])
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=msg)

    @app.evaluate()
    def evaluate(msg: Message, context: Context) -> Message:
        weight, bias = msg.content["arrays"].to_numpy_ndarrays()
        partition = int(context.node_config["partition-id"])
        metrics = MetricRecord({"eval_loss": loss(weight, bias, partition), "num-examples": len(data(partition)[1])})
        return Message(RecordDict({"metrics": metrics}), reply_to=msg)

    return app


def server_app(
    strategy: Strategy, results: list[Result], rounds: int = 3, timeout: float = 60.0, nodes: int = 2
) -> ServerApp:
    """Run a strategy for some rounds once `nodes` are here; what came of it is appended to `results`."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        while len(list(grid.get_node_ids())) < nodes:  # Flower's own wait looks once a second
            time.sleep(0.01)
        start = ArrayRecord([np.zeros(FEATURES, dtype=np.float32), np.zeros(1, dtype=np.float32)])
        results.append(
            strategy.start(
                grid=grid,
                initial_arrays=start,
                num_rounds=rounds,
                timeout=timeout,
                train_config=ConfigRecord({"lr": 0.05}),
            )
        )

    return app

"""`fedcore flower serve` and `join` as processes under mutual TLS, with an app in a folder as `flwr new` makes it."""

from pathlib import Path

import pytest

from tests.whole.stage import Stage, eventually

PROJECT = """
[project]
name = "plain"
version = "1.0.0"
description = "a Flower app"
license = "Apache-2.0"
[tool.flwr.app]
publisher = "somebody"
[tool.flwr.app.components]
serverapp = "plain.server_app:app"
clientapp = "plain.client_app:app"
[tool.flwr.app.config]
num-server-rounds = 1
step = 0.5
"""
SERVER = """
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAdagrad
import numpy as np

app = ServerApp()

@app.main()
def main(grid: Grid, context: Context) -> None:
    strategy = FedAdagrad(fraction_evaluate=0.0)
    rounds = context.run_config["num-server-rounds"]
    result = strategy.start(grid=grid, initial_arrays=ArrayRecord([np.zeros(3)]), num_rounds=rounds)
    print("RESULT", sorted(result.train_metrics_clientapp), result.train_metrics_clientapp[rounds]["part"])
"""
CLIENT = """
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()

@app.train()
def train(msg: Message, context: Context) -> Message:
    (weights,) = msg.content["arrays"].to_numpy_ndarrays()
    part = context.node_config["partition-id"]
    metrics = MetricRecord({"num-examples": 1, "part": part})
    arrays = ArrayRecord([weights + context.run_config["step"]])
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=msg)
"""


@pytest.fixture
def app(stage: Stage) -> Path:
    folder = stage.root / "my-app"
    (folder / "plain").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "plain" / "__init__.py").touch()
    (folder / "plain" / "server_app.py").write_text(SERVER)
    (folder / "plain" / "client_app.py").write_text(CLIENT)
    return folder


@pytest.mark.slow
def test_an_apps_folder_is_served_and_joined_as_it_is(stage: Stage, app: Path) -> None:
    made = stage.run("certs", "certs", "--device", "left", "--class", "box")
    assert made.returncode == 0, made.stderr
    words = ("flower", "serve", app, "--certs", "certs", "--run-config", "num-server-rounds=2", "--run-dir", "run")
    served = stage.start("serve", *words)
    eventually("it listens", lambda: "listening on " in served.output())
    address = served.output().split("listening on ")[1].split()[0]
    joins = []
    for number, (name, identity) in enumerate((("left", "left"), ("right", "box"))):
        node = f"partition-id={number}"
        words = ("flower", "join", address, app, "--name", name, "--class", "box", "--certs", "certs")
        joins.append(
            stage.start(name, *words, "--identity", identity, "--node-config", node, "--state", f"kept-{name}")
        )
    assert served.ends() == 0, served.output()
    assert "RESULT [1, 2] 0.5" in served.output() and "the app has finished" in served.output()
    for each in joins:
        assert each.ends() == 0, each.output()
        assert "the app has finished" in each.output()


@pytest.mark.slow
def test_mistakes_are_told_in_a_line(stage: Stage, app: Path) -> None:
    for words, told in (
        (("serve", app), "give --certs FOLDER"),
        (("serve", "nowhere", "--insecure"), "Cannot find pyproject.toml"),
        (("serve", app, "--insecure", "--run-config", "lr=3"), "Key 'lr' is not present"),
        (("join", "127.0.0.1:1", "nowhere", "--name", "left", "--insecure"), "no Flower app can be loaded"),
    ):
        said = stage.run("flower", *words)
        assert said.returncode == 1 and "Traceback" not in said.stderr, said.stderr
        assert told in said.stderr.replace("\n", " ")

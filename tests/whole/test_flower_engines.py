"""Our strategies and our device on Flower's own engines, for real: one adapter, whatever carries it."""

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedcore.client.device.run import run_device
from fedcore.client.options import ClientOptions, DataOptions, DeviceLimits
from fedcore.core.contract.protocols import Json
from fedcore.protos.records import overrides
from fedcore.server.flower.load import run_config
from fedcore.server.run.inspect_run import run_status
from fedcore.server.run.run_folder import RunFolder
from tests.tiny_models import WORDS
from tests.tiny_run import serving
from tests.whole.flower_stage import APP, FlowerStage, free_port, staged

NODES = 2

SIMULATION = """
import sys
from flwr.app import Context
from flwr.simulation import run_simulation
from fedcore.client.flower.app import client_app
from fedcore.client.flower.settings import node_settings
from fedcore.core.config.toml import parse_config
from fedcore.server.flower.app import server_app

SETTINGS = sys.argv[1:]

def settings_of(context):  # run_simulation has no run configuration
    shared = dict(each.split("=", 1) for each in SETTINGS)
    return node_settings(Context(context.run_id, context.node_id, context.node_config, context.state, shared))

if __name__ == "__main__":
    resources = {"client_resources": {"num_cpus": 1}, "init_args": {"num_cpus": 1}}
    run_simulation(server_app(parse_config("", SETTINGS)), client_app(settings_of), 2, backend_config=resources)
"""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[FlowerStage]:
    with staged(tmp_path) as made:
        yield made


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    rng, path = random.Random(0), tmp_path / "rows.csv"
    lines = [f"{' '.join(rng.choices(WORDS, k=5))},{rng.choice(('neg', 'pos'))}" for _ in range(60)]
    path.write_text("text,label\n" + "\n".join(lines) + "\n")
    return path


def changes(root: Path, model: Path, rows: Path, rounds: int) -> dict[str, str]:
    """What is other than in the example: a tiny model, fixed arms."""
    words = {"run-dir": root / "run", "model.path": model, "data.train": rows}
    words |= {"strategy.bandit": "fixed", "strategy.pace": "off"}
    numbers = {"run.rounds": rounds, "training.local_steps": 2, "training.batch_size": 4, "model.max_length": 16}
    return {key: f"'{value}'" for key, value in words.items()} | {key: str(value) for key, value in numbers.items()}


def wording(changed: dict[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in changed.items())


async def ours(root: Path, model: Path, rows: Path, changed: dict[str, str]) -> None:
    """The same run on our coordinator, with devices of the nodes' names."""
    settings = overrides(run_config(APP, wording(changed)))
    async with serving(root / "ours", model, [*settings, 'data.labels=["neg", "pos"]']) as served:

        def device(number: int) -> ClientOptions:
            return ClientOptions(
                targets=(served.address,),
                name=f"node-{number}",
                tls=None,
                model=model,
                data=DataOptions(
                    train=str(rows),
                    test=None,
                    text=("text",),
                    label="label",
                    test_fraction=0.2,
                    shard=(number + 1, NODES),
                    partition="iid",
                ),
                state=root / f"node-{number}",
                reconnect_s=10.0,
                say=lambda text: None,
            )

        classes = ("tx2", "agx")
        devices = [run_device(device(number), DeviceLimits(device_class=classes[number])) for number in range(NODES)]
        await asyncio.gather(*devices)
        await served.summary()


def adapter(run: Path) -> bytes:
    return (run / "global" / "adapter_model.safetensors").read_bytes()


def summary(run: Path) -> Json:
    told: Json = run_status(RunFolder(run))["summary"]
    return told


@pytest.mark.long
def test_the_simulation_engine_runs_our_strategy_and_our_device(stage: FlowerStage, bert: Path, rows: Path) -> None:
    (stage.root / "simulate.py").write_text(SIMULATION)
    words = {"model.path": str(bert), "data.train": str(rows)}
    numbers = {"run.rounds": 1, "training.local_steps": 1, "model.max_length": 16, "coordinator.min_devices": 2}
    settings = [f"{key}={value}" for key, value in {**words, **numbers}.items()]
    stage.run("python", "simulate.py", *settings)
    told = summary(stage.root / "runs" / "run")
    assert told["run"]["status"] == "finished" and [each["accepted"] for each in told["rounds"]] == [NODES]


@pytest.mark.long
async def test_flwr_run_gives_the_adapter_our_coordinator_gives(stage: FlowerStage, bert: Path, rows: Path) -> None:
    changed = changes(stage.root, bert, rows, rounds=3)
    await asyncio.to_thread(stage.run, "flwr", "run", APP, "--stream", "-c", wording(changed))
    told = summary(stage.root / "run")
    assert [each["accepted"] for each in told["rounds"]] == [NODES] * 3
    assert told["global"]["final"]["accuracy"] is not None and set(told["classes"]) == {"tx2", "agx"}
    await ours(stage.root, bert, rows, changed)
    assert adapter(stage.root / "run") == adapter(stage.root / "ours")


@pytest.mark.long
async def test_a_superlink_and_supernodes_give_the_adapter_our_coordinator_gives(
    stage: FlowerStage, bert: Path, rows: Path
) -> None:
    changed = changes(stage.root, bert, rows, rounds=2)
    stage.write_connection()
    stage.start("flower-superlink", "--insecure", "--port", stage.port)
    for number in range(NODES):
        words = f"partition-id={number} num-partitions={NODES} state='{stage.root / f'kept-{number}'}'"
        where = ("--superlink", f"127.0.0.1:{stage.port}", "--port", free_port())
        stage.start("flower-supernode", "--insecure", *where, "--node-config", words)
    await asyncio.to_thread(connected, stage)
    await asyncio.to_thread(stage.run, "flwr", "run", APP, "deployment", "--stream", "-c", wording(changed))
    assert [each["accepted"] for each in summary(stage.root / "run")["rounds"]] == [NODES] * 2
    await ours(stage.root, bert, rows, changed)
    assert adapter(stage.root / "run") == adapter(stage.root / "ours")
    assert all((stage.root / f"kept-{number}").is_dir() for number in range(NODES))


def connected(stage: FlowerStage, seconds: float = 60.0) -> None:
    """Wait until the SuperLink answers."""
    import httpx

    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        try:
            if httpx.get(f"http://127.0.0.1:{stage.port}/health", timeout=1.0).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise AssertionError("the SuperLink does not answer")

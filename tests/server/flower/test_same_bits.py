"""The same rounds on our coordinator and inside a Flower ServerApp: one adapter, bit for bit."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedcore.client.device.run import run_device
from fedcore.client.flower.app import client_app
from fedcore.client.flower.settings import NodeSettings, node_settings
from fedcore.client.options import ClientOptions, DataOptions, DeviceLimits
from fedcore.core.errors import ConfigError
from fedcore.server.flower.app import open_run
from fedcore.server.flower.strategy import FedcoreStrategy
from fedcore.server.run.inspect_run import replay_run
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.run_folder import RunFolder
from tests.server.flower.conftest import DirectGrid
from tests.tiny_models import WORDS, tiny_model
from tests.tiny_run import serving, tiny_config

NODES = 3
OVERRIDES = (
    *("run.rounds=3", "model.max_length=16", 'data.labels=["neg", "pos"]', "coordinator.min_devices=3"),
    *("strategy.name=fedspine", "strategy.bandit=fixed", "strategy.target_sparsity=0.5", "strategy.ranks=[2, 3]"),
    *("strategy.warmup_rounds=1", "strategy.recovery_rounds=1", "strategy.reward_times=model"),
    *("training.local_steps=2", "training.batch_size=4", "training.keep_optimizer=true"),
    *("coordinator.round_deadline_s=60.0", "coordinator.lease_s=30.0"),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "bert", "bert")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng, path = random.Random(0), tmp_path_factory.mktemp("data") / "rows.csv"
    lines = [f"{' '.join(rng.choices(WORDS, k=5))},{rng.choice(('neg', 'pos'))}" for _ in range(60)]
    path.write_text("text,label\n" + "\n".join(lines) + "\n")
    return path


def data_of(rows: Path, number: int) -> DataOptions:
    return DataOptions(
        train=str(rows),
        test=None,
        text=("text",),
        label="label",
        test_fraction=0.0,
        shard=(number + 1, NODES),
        partition="iid",
    )


async def on_our_coordinator(root: Path, model: Path, rows: Path, overrides: Sequence[str]) -> None:
    async with serving(root / "run", model, overrides) as served:

        def options(number: int) -> ClientOptions:
            return ClientOptions(
                targets=(served.address,),
                name=f"node-{number}",
                tls=None,
                model=model,
                data=data_of(rows, number),
                state=root / f"node-{number}",
                reconnect_s=5.0,
                say=lambda text: None,
            )

        await asyncio.gather(
            *(run_device(options(number), DeviceLimits(device_class="tiny")) for number in range(NODES))
        )
        await served.summary()


def in_a_server_app(root: Path, model: Path, rows: Path, overrides: Sequence[str]) -> None:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1

    def settings_of(context: Context) -> NodeSettings:
        number = int(context.node_config["partition-id"])
        return NodeSettings(
            name=f"node-{number}",
            limits=DeviceLimits(device_class="tiny"),
            model=str(model),
            data=data_of(rows, number),
            state=None if number else root / "kept",  # one in a folder, the others in their Contexts
        )

    context = Context(
        run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={"run-dir": str(root / "run")}
    )
    run = open_run(tiny_config(model, overrides), context)
    try:
        grid = DirectGrid(client_app(settings_of), NODES, {})
        result = FedcoreStrategy(run).start(grid)
    finally:
        run.close()
    assert [int(each["accepted"]) for each in result.train_metrics_clientapp.values()] == [NODES] * 3


def final(root: Path) -> bytes:
    return (root / "run" / "global" / "adapter_model.safetensors").read_bytes()


def plans(root: Path) -> list[tuple[object, ...]]:
    ledger = Ledger.open(RunFolder(root / "run").ledger, read_only=True)
    try:
        keys = ("round", "device", "status", "sparsity", "rank", "weight", "bytes_up", "loss_before", "loss_after")
        return [tuple(row[key] for key in keys) for rows in ledger.outcomes().values() for row in rows]
    finally:
        ledger.close()


@pytest.mark.parametrize(
    ("aggregator", "codec"),
    [("factor-mean", "ef+int8+zstd"), ("delta-stack", "bf16+zstd")],
    ids=("reducing", "bundling"),
)
async def test_a_flower_run_gives_the_adapter_our_coordinator_gives(
    aggregator: str, codec: str, tmp_path: Path, model: Path, rows: Path
) -> None:
    overrides = (*OVERRIDES, f"strategy.aggregator={aggregator}", f"training.codec={codec}")
    if aggregator == "delta-stack":
        overrides = (*overrides, "training.keep_optimizer=false")
    await on_our_coordinator(tmp_path / "ours", model, rows, overrides)
    await asyncio.to_thread(in_a_server_app, tmp_path / "flower", model, rows, overrides)
    assert plans(tmp_path / "flower") == plans(tmp_path / "ours")
    assert len({row[3] for row in plans(tmp_path / "ours")}) > 1, "the run prunes"
    assert final(tmp_path / "flower") == final(tmp_path / "ours")
    assert replay_run(RunFolder(tmp_path / "flower" / "run")) == 3 * NODES
    assert (tmp_path / "flower" / "kept" / "training.safetensors").is_file()


async def test_a_regression_gives_the_same_bits_on_both(tmp_path: Path, model: Path, rows: Path) -> None:
    numbers = tmp_path / "rows.csv"
    numbers.write_text(rows.read_text().replace(",neg", ",-120.5").replace(",pos", ",80"))
    kept = (name for name in OVERRIDES if not name.startswith("data.labels"))
    overrides = (*kept, "task.kind=regression", "task.low=-200", "task.high=200", "data.labels=[]")
    await on_our_coordinator(tmp_path / "ours", model, numbers, overrides)
    await asyncio.to_thread(in_a_server_app, tmp_path / "flower", model, numbers, overrides)
    assert plans(tmp_path / "flower") == plans(tmp_path / "ours") and final(tmp_path / "flower") == final(
        tmp_path / "ours"
    )
    with pytest.raises(ConfigError, match="the coordinator of a regression reads no rows; say where most targets lie"):
        await asyncio.to_thread(
            in_a_server_app, tmp_path / "unsaid", model, numbers, (*overrides[:-3], "data.labels=[]")
        )


async def test_hand_outs_of_kept_rows_change_no_bit(tmp_path: Path, model: Path, rows: Path) -> None:
    kept = (*OVERRIDES, "training.handout=kept")
    await on_our_coordinator(tmp_path / "whole", model, rows, OVERRIDES)
    await on_our_coordinator(tmp_path / "kept", model, rows, kept)
    await asyncio.to_thread(in_a_server_app, tmp_path / "flower", model, rows, kept)
    assert plans(tmp_path / "kept") == plans(tmp_path / "whole") == plans(tmp_path / "flower")
    assert final(tmp_path / "kept") == final(tmp_path / "whole") == final(tmp_path / "flower")


def test_a_node_is_a_device_by_its_configuration() -> None:
    def context(node: dict[str, str | int | float], shared: dict[str, str | int | float]) -> Context:
        return Context(run_id=1, node_id=1, node_config=dict(node), state=RecordDict(), run_config=dict(shared))

    simulated = node_settings(
        context({"partition-id": 3, "num-partitions": 4}, {"data.train": "rows.csv", "device-classes": "tx2, agx"})
    )
    assert (simulated.name, simulated.limits.device_class, simulated.data.shard) == ("node-3", "agx", (4, 4))
    real = node_settings(context({"name": "cam-1", "class": "nx", "data": "own.csv", "state": "kept"}, {}))
    assert (real.name, real.limits.device_class, real.data.train) == ("cam-1", "nx", "own.csv")
    assert real.data.shard is None and real.state == Path("kept")

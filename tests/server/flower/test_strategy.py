"""Our strategies inside a ServerApp: what nodes do wrong becomes an outcome, and the run folder tells of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, RecordDict
from flwr.common.constant import ErrorCode
from flwr.supercore.task_identity import TaskIdentity

from fedcore.core.errors import ConfigError, RunError
from fedcore.server.flower import replies
from fedcore.server.flower.app import open_run
from fedcore.server.flower.round_driver import FlowerDriver
from fedcore.server.flower.settings import run_settings
from fedcore.server.flower.strategy import FedcoreStrategy
from fedcore.server.run.journal import read_events
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.run_folder import RunFolder
from fedcore.strategies.table import STRATEGIES
from tests.server.conftest import TinyModel
from tests.server.flower import fake_node
from tests.server.flower.fake_node import FakeNodes, Fault, right
from tests.tiny_run import tiny_config

WRONG: dict[str, tuple[Fault, str, str]] = {
    "fails": (fake_node.failing, "rejected", "out of luck"),
    "raises": (fake_node.erring(ErrorCode.CLIENT_APP_RAISED_EXCEPTION), "rejected", "as told"),
    "crashes": (fake_node.erring(ErrorCode.CLIENT_APP_CRASHED), "lost", "as told"),
    "is gone": (fake_node.erring(ErrorCode.NODE_UNAVAILABLE), "lost", "as told"),
    "other bytes": (fake_node.other_bytes, "rejected", "send them again"),
    "too large": (fake_node.too_large, "rejected", "expected at most"),
    "no payload": (fake_node.without_payload, "rejected", "is not in the reply"),
    "another app": (fake_node.of_another_app, "rejected", "a reply without a message of ours"),
    "no number": (fake_node.not_finite, "rejected", "loss_after"),
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "PAUSE_S", 0.01)
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1


def nodes_of(tiny: TinyModel, faults: dict[str, Fault]) -> FakeNodes:
    return FakeNodes(tiny.mark, tiny.geometry, faults)


@contextmanager
def running(root: Path, tiny: TinyModel, overrides: Sequence[str] = (), **settings: str) -> Iterator[FlowerDriver]:
    context = Context(
        run_id=1,
        node_id=1,
        node_config={},
        state=RecordDict(),
        run_config={"run-dir": str(root / "run"), **{key.replace("_", "-"): value for key, value in settings.items()}},
    )
    run = open_run(tiny_config(tiny.folder, overrides), context)
    try:
        yield run
    finally:
        run.close()


def statuses(root: Path, device: str) -> list[str]:
    ledger = Ledger.open(RunFolder(root / "run").ledger, read_only=True)
    try:
        return [row["status"] for rows in ledger.outcomes().values() for row in rows if row["device"] == device]
    finally:
        ledger.close()


@pytest.mark.parametrize("name", WRONG)
def test_what_a_node_does_wrong_is_an_outcome_and_the_round_closes_with_the_others(
    name: str, tiny: TinyModel, tmp_path: Path
) -> None:
    fault, status, words = WRONG[name]
    grid = nodes_of(tiny, {"bad": fault, "good": right})
    with running(tmp_path, tiny, ["run.rounds=3"]) as run:
        result = FedcoreStrategy(run).start(grid)
    took_part = 2 if status == "lost" else 3  # who was lost comes back for the round after the next
    assert statuses(tmp_path, "bad") == [status] * took_part and statuses(tmp_path, "good") == ["accepted"] * 3
    assert [figures["accepted"] for figures in result.train_metrics_clientapp.values()] == [1, 1, 1]
    told = [each for each in read_events(tmp_path / "run" / "events.jsonl") if each.get("device") == "bad"]
    assert any(words in str(each.get("message", each.get("reason", ""))) for each in told)
    assert not list((tmp_path / "run" / "blobs" / "partial").glob("*"))


def test_a_node_that_runs_out_of_memory_gets_smaller_arms_until_none_is_left(tiny: TinyModel, tmp_path: Path) -> None:
    overrides = (
        *("strategy.name=fedspine", "strategy.target_sparsity=0.5", "strategy.ranks=[1, 2]", "run.rounds=12"),
        *("strategy.warmup_rounds=1", "strategy.recovery_rounds=1", "training.codec=identity"),
    )
    grid = nodes_of(tiny, {"bad": fake_node.out_of_memory, "good": right})
    with running(tmp_path, tiny, overrides) as run:
        FedcoreStrategy(run).start(grid)
    events = list(read_events(tmp_path / "run" / "events.jsonl"))
    ceilings = [each["ceiling_mb"] for each in events if each["event"] == "memory_ceiling"]
    assert ceilings == sorted(ceilings, reverse=True) and ceilings[-1] == 0 and len(ceilings) > 1
    assert statuses(tmp_path, "bad") == ["out_of_memory"] * len(ceilings), "then it takes part no more"
    assert statuses(tmp_path, "good") == ["accepted"] * 12


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("aggregator", ["factor-mean", "delta-stack"])
def test_every_strategy_with_every_aggregator_runs_to_its_summary(
    strategy: str, aggregator: str, tiny: TinyModel, tmp_path: Path
) -> None:
    overrides = (
        *(f"strategy.name={strategy}", f"strategy.aggregator={aggregator}", "strategy.bandit=random", "run.rounds=5"),
        *("strategy.ranks=[1, 2, 3]", "strategy.target_sparsity=0.5", "strategy.warmup_rounds=1"),
        *("strategy.recovery_rounds=1", "training.codec=bf16+zstd", "coordinator.min_devices=3"),
    )
    grid = nodes_of(tiny, {f"node-{number}": right for number in range(3)})
    with running(tmp_path, tiny, overrides) as run:
        FedcoreStrategy(run).start(grid)
        assert run.over
    folder = RunFolder(tmp_path / "run")
    assert folder.summary.is_file() and (folder.adapter / "adapter_model.safetensors").is_file()
    assert all(status == "accepted" for number in range(3) for status in statuses(tmp_path, f"node-{number}"))
    assert grid.arrays_seen and all(seen == {"fedcore.identity"} for seen in grid.arrays_seen)


def test_a_node_that_stays_silent_misses_the_deadline(tiny: TinyModel, tmp_path: Path) -> None:
    class Falling(FakeNodes):
        def push_messages(self, messages):  # type: ignore[no-untyped-def]
            pushed = super().push_messages(messages)
            if self.messages[pushed[0]].metadata.message_type == "train":
                self.silent.add("mute")
            return pushed

    grid = Falling(tiny.mark, tiny.geometry, {"mute": right, "good": right})
    with running(tmp_path, tiny, ["coordinator.round_deadline_s=0.3", "run.rounds=1"]) as run:
        FedcoreStrategy(run).start(grid)
    assert statuses(tmp_path, "mute") == ["missed_deadline"] and statuses(tmp_path, "good") == ["accepted"]


def test_a_node_that_flower_lists_no_more_is_lost_and_one_that_comes_takes_part(
    tiny: TinyModel, tmp_path: Path
) -> None:
    grid = nodes_of(tiny, {"first": right, "second": right, "third": right})
    grid.gone.add("third")
    with running(tmp_path, tiny, ["run.rounds=3"]) as run:
        strategy = FedcoreStrategy(run)
        step(strategy, grid)
        grid.gone = {"second"}
        step(strategy, grid)
        step(strategy, grid)
        assert run.over
    assert statuses(tmp_path, "second") == ["accepted", "lost"]
    assert statuses(tmp_path, "third") == ["accepted"], "planned for from the round after it came"


def test_the_separate_steps_take_replies_from_any_iterator(tiny: TinyModel, tmp_path: Path) -> None:
    grid = nodes_of(tiny, {"left": right, "right": right})
    with running(tmp_path, tiny, ["run.rounds=1"]) as run:
        strategy = FedcoreStrategy(run)
        arrays, metrics = step(strategy, grid)
        assert strategy.configure_evaluate(1, arrays, ConfigRecord(), grid) == []
        assert run.engine is not None
        assert {name: array.shape for name, array in arrays.items()} == run.engine.strategy.spec.shapes()
    assert metrics["accepted"] == 2


def test_too_few_nodes_pause_the_run_with_a_word(tiny: TinyModel, tmp_path: Path) -> None:
    grid = nodes_of(tiny, {"alone": right})
    overrides = ["coordinator.min_devices=2", "coordinator.join_deadline_s=0.2"]
    with running(tmp_path, tiny, overrides) as run, pytest.raises(RunError, match=r"needs 2 device\(s\) and 1 were"):
        FedcoreStrategy(run).start(grid)


def test_a_run_that_paused_goes_on_in_its_folder(tiny: TinyModel, tmp_path: Path) -> None:
    grid = nodes_of(tiny, {"left": right, "right": right})
    with running(tmp_path, tiny, ["run.rounds=2"]) as run:
        step(FedcoreStrategy(run), grid)
    with running(tmp_path, tiny, resume=str(tmp_path / "run")) as run:
        result = FedcoreStrategy(run).start(grid)
    assert list(result.train_metrics_clientapp) == [2]
    assert statuses(tmp_path, "left") == ["accepted", "accepted"]


def test_equal_names_and_other_models_are_refused_and_never_asked_again(tiny: TinyModel, tmp_path: Path) -> None:
    grid = nodes_of(tiny, {"left": right, "right": right, "twin": right})
    grid.names[14] = "left"
    grid.faults |= {"stranger": right}
    with running(tmp_path, tiny, ["run.rounds=1"]) as run:
        step(FedcoreStrategy(run), grid)
    refused = [each for each in read_events(tmp_path / "run" / "events.jsonl") if each["event"] == "refused"]
    assert len(refused) == 1 and "another node is the device left" in refused[0]["message"]
    other = FakeNodes(replace(tiny.mark, tensors="0" * 64), tiny.geometry, {"left": right, "right": right})
    overrides = ["coordinator.join_deadline_s=0.2"]
    with running(tmp_path / "other", tiny, overrides) as run, pytest.raises(RunError, match="0 were here"):
        FedcoreStrategy(run).start(other)


def test_numbers_that_the_configuration_decides_are_not_taken_from_elsewhere(tiny: TinyModel, tmp_path: Path) -> None:
    with running(tmp_path, tiny) as run:
        strategy = FedcoreStrategy(run)
        with pytest.raises(ConfigError, match="follow from the configuration"):
            strategy.start(nodes_of(tiny, {}), num_rounds=99)


def test_an_apps_run_configuration_is_a_configuration_of_ours() -> None:
    settings = run_settings(
        {"run.rounds": 3, "strategy.ranks": "[2, 4]", "training.keep_optimizer": True, "run-dir": "here", "other": "x"}
    )
    assert settings.config.run.rounds == 3 and settings.config.strategy.ranks == (2, 4)
    assert settings.config.training.keep_optimizer and (settings.run_dir, settings.resume) == ("here", "")
    with pytest.raises(ConfigError, match=r"did you mean run\.rounds"):
        run_settings({"run.round": 3})


def step(strategy: FedcoreStrategy, grid: FakeNodes) -> tuple[ArrayRecord, dict[str, float]]:
    """One round by hand."""
    messages = list(strategy.configure_train(0, ArrayRecord(), ConfigRecord(), grid))
    numbers = [number for message in messages for number in grid.push_messages([message])]
    arrays, metrics = strategy.aggregate_train(0, (each for number in numbers for each in grid.pull_messages([number])))
    assert arrays is not None and metrics is not None
    return arrays, dict(metrics)  # type: ignore[arg-type]

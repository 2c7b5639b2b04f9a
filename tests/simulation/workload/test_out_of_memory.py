"""Virtual devices whose training runs out of memory: each gets smaller arms from then on, as a real one does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fedcore.server.run.journal import read_events
from fedcore.simulation.workload import trainer
from fedcore.simulation.workload.trainer import VirtualTrainer
from tests.simulation.test_run import run, text

__all__ = ["text"]  # a fixture
LEAST = 0.3  # sparsity that fits
SETTINGS = ("run.rounds=6", "strategy.bandit=s-ucb", "fleet.class.big.target_sparsity=0.5")


def tight(real: Callable[..., Any]) -> Callable[..., Any]:
    def train(classifier: Any, *arguments: Any, **named: Any) -> Any:
        if classifier.keep_set.sparsity(classifier.geometry) < LEAST:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(classifier, *arguments, **named)

    return train


@pytest.mark.parametrize("training", ["batched", "one-by-one"])
def test_devices_find_the_arms_that_fit(
    training: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("train_batched", "local_round"):
        monkeypatch.setattr(trainer, name, tight(getattr(trainer, name)))
    run(text, tmp_path / "run", *SETTINGS, f"simulation.training={training}")
    events = list(read_events(tmp_path / "run" / "events.jsonl"))
    failed = [event for event in events if event["event"] == "failed"]
    assert failed and all(event["out_of_memory"] for event in failed)
    assert "training ran out of memory on cpu" in failed[0]["message"]
    ceilings = [event for event in events if event["event"] == "memory_ceiling"]
    assert {event["device"] for event in ceilings} == {event["device"] for event in failed}
    assert all(event["ceiling_mb"] > 0 for event in ceilings), "there are arms that fit"
    accepted = {event["device"]: event["round"] for event in events if event["event"] == "accepted"}
    assert accepted.keys() == {event["device"] for event in failed}, "each is counted in the end"
    assert all(accepted[name] > max(each["round"] for each in failed if each["device"] == name) for name in accepted)


def test_a_model_that_does_not_fit_fails_its_devices_and_not_the_run(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = VirtualTrainer._cut, []

    def cut(self: VirtualTrainer, *arguments: Any, **named: Any) -> Any:
        asked.append(arguments)
        if len(asked) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, *arguments, **named)

    monkeypatch.setattr(VirtualTrainer, "_cut", cut)
    run(text, tmp_path / "run", "run.rounds=3")
    events = list(read_events(tmp_path / "run" / "events.jsonl"))
    failed = [event for event in events if event["event"] == "failed"]
    assert failed and {event["round"] for event in failed} == {1}
    assert all("preparing the model ran out of memory" in event["message"] for event in failed)
    assert [event["event"] for event in events].count("round_closed") == 3

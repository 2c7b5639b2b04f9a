"""fedcore.simulate as a user calls it: what comes out, and what a mistake is told."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest
import torch

import fedcore
from fedcore.client.evaluation.model_evaluator import ModelEvaluator
from fedcore.core.config.toml import to_toml
from fedcore.core.errors import ConfigError, DataError, ModelError, RunError
from fedcore.nn.training.batches import EncodedRows
from fedcore.server.aggregate.engine import Engine
from fedcore.simulation.rounds.driver import Driver
from fedcore.simulation.workload.trainer import VirtualTrainer
from fedcore.storage.process.quiet import SWITCHES
from tests.api.conftest import Command
from tests.tiny_models import pad_beyond_vocabulary, tiny_model

WORDS = ("bad", "good")
ENDS = ("and", "story", "plot", "actor")
ROWS = [
    {"text": f"the film was {WORDS[number % 2]} {ENDS[number % 4]}", "label": f"it is {WORDS[number % 2]}"}
    for number in range(12)
]
HELD = [{"text": "a good plot", "label": "it is good"}, {"text": "a dull plot", "label": "it is bad"}]


def test_an_untrained_fleet(untrained: dict[str, Any], place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fedcore.simulate(untrained)
    assert run.path == Path("runs/none")
    assert run.summary["run"]["strategy"] == "fedspine"
    assert run.summary["totals"]["rounds"] == 3
    assert fedcore.simulate(untrained, rounds=1, strategy="hetlora").path == Path("runs/none-2")
    assert capsys.readouterr() == ("", "")


def test_the_files_are_those_of_the_command(untrained: dict[str, Any], place: Path, command: Command) -> None:
    (place / "none.toml").write_text(to_toml(fedcore.load_config(untrained)))
    command("simulate", "none.toml", "--run-dir", "told")
    called = fedcore.simulate("none.toml", run_dir="called").path
    for name in ("config.toml", "rounds.csv", "events.jsonl"):
        assert (called / name).read_bytes() == (place / "told" / name).read_bytes()


def test_overrides_and_their_short_forms(untrained: dict[str, Any]) -> None:
    run = fedcore.simulate(
        untrained, strategy="fedavg-lora", rounds=2, overrides={"run.rounds": 9, "fleet.class.big.count": 4}
    )
    assert run.summary["run"]["strategy"] == "fedavg-lora"
    assert run.summary["totals"]["rounds"] == 2
    assert {row["device"] for row in run.rounds} == {"big-0", "big-1", "big-2", "big-3", "small-0"}


def test_progress_is_printed_on_request(untrained: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    fedcore.simulate(untrained, progress=True)
    first, *rounds = capsys.readouterr().out.splitlines()
    assert first == "run folder: runs/none"
    assert [line.partition(":")[0] for line in rounds] == ["round 1/3", "round 2/3", "round 3/3"]


def test_a_strategy_of_ones_own(untrained: dict[str, Any]) -> None:
    @fedcore.strategy("one-rank")
    def one_rank(config: fedcore.Config) -> fedcore.Config:
        return fedcore.unpruned(config, aggregator="factor-mean", ranks=(2,))

    run = fedcore.simulate(untrained, strategy="one-rank")
    assert run.summary["run"]["strategy"] == "one-rank"
    assert {(row["rank"], row["sparsity"]) for row in run.rounds} == {(2, 0.0)}


def test_telemetry_is_off(untrained: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SWITCHES:
        monkeypatch.delenv(name, raising=False)
    fedcore.simulate(untrained, rounds=1)
    assert {name: os.environ[name] for name in SWITCHES} == SWITCHES


@pytest.fixture
def trained(place: Path) -> dict[str, Any]:
    """Tables of a simulation that trains a tiny model for a round."""
    tiny_model(place / "model", "bert")
    return {
        "run": {"name": "tiny", "rounds": 1},
        "model": {"path": "model", "max_length": 12},
        "strategy": {"ranks": [2], "warmup_rounds": 1, "recovery_rounds": 0},
        "training": {"local_steps": 1, "batch_size": 2},
        "simulation": {"exports": False},
        "fleet": {"class": [{"name": "phone", "count": 2}]},
    }


def test_rows_in_memory_train_a_run_that_can_be_repeated(
    trained: dict[str, Any], place: Path, command: Command
) -> None:
    threads = torch.get_num_threads()
    tables = {
        "list": (ROWS, HELD),
        "frame": (pandas.DataFrame(ROWS), pandas.DataFrame(HELD)),
        "set": (datasets.Dataset.from_list(ROWS), datasets.Dataset.from_list(HELD)),
        "pair": tuple(([row["text"] for row in rows], [row["label"] for row in rows]) for rows in (ROWS, HELD)),
    }
    runs = {
        name: fedcore.simulate(trained, train=train, test=test, run_dir=name) for name, (train, test) in tables.items()
    }
    first = runs["list"]
    assert torch.get_num_threads() == threads  # measuring takes every core, for as long as it lasts
    assert first.summary["global"]["final"]["rows"] == 2
    assert first.config.data.labels == ("it is bad", "it is good")
    assert first.config.data.train == str(place / "list" / "data" / "train.jsonl")
    for line, row in zip((place / "list" / "data" / "train.jsonl").read_text().splitlines(), ROWS, strict=True):
        assert json.loads(line) == row
    command("simulate", "list/config.toml", "--run-dir", "repeated")
    for run in (*runs.values(), fedcore.Run("repeated")):
        assert (run.path / "rounds.csv").read_bytes() == (first.path / "rounds.csv").read_bytes()
        assert run.summary["global"] == first.summary["global"]
    exported = first.export(sparsity=0.25)
    assert exported == first.path / "exports" / "sparsity-0.25"
    assert (exported / "model.safetensors").is_file()
    assert first.export(sparsity=0.25) == exported


CHATS = [
    [{"role": "user", "content": f"the film was {word}"}, {"role": "assistant", "content": f"a {word} film"}]
    for word in ("good", "bad", "great", "dull")
]
WRITTEN: dict[str, tuple[Any, dict[str, Any]]] = {
    "prompts in dicts": ([{"prompt": chat[0]["content"], "response": chat[1]["content"]} for chat in CHATS], {}),
    "chats in a data set": (datasets.Dataset.from_list([{"messages": chat} for chat in CHATS]), {}),
    "chats in a list": (CHATS, {}),
    "texts": ([f"{chat[0]['content']} {chat[1]['content']}" for chat in CHATS], {"task.kind": "generation"}),
    "two lists": (([chat[0]["content"] for chat in CHATS], ["good film"] * 4), {"task.kind": "generation"}),
    "columns of other names": (
        {"q": [chat[0]["content"] for chat in CHATS], "a": ["good film"] * 4},
        {"task.kind": "generation", "data.text": "q", "data.label": "a"},
    ),
}


@pytest.mark.parametrize(("rows", "overrides"), WRITTEN.values(), ids=WRITTEN)
def test_rows_in_memory_train_a_model_that_writes(
    trained: dict[str, Any], place: Path, rows: Any, overrides: dict[str, Any]
) -> None:
    tiny_model(place / "llama", "llama", writes=True)
    small = {"model.path": "llama", "data.partition": "iid", "task.template": "chatml", "task.answer_tokens": 4}
    run = fedcore.simulate(trained, train=rows, test=rows, overrides=small | {"model.max_length": 32} | overrides)
    final = run.summary["global"]["final"]
    assert run.summary["run"]["task"] == "generation" and final["perplexity"] > 1 and final["rows"] == 4
    handed = json.loads((run.path / "data" / "test.jsonl").read_text().splitlines()[0])
    assert ("samples" in final) == ("text" not in handed), "a plain text asks nothing"


def test_a_chat_in_memory_without_an_answer_is_told_by_its_row(trained: dict[str, Any], place: Path) -> None:
    tiny_model(place / "llama", "llama", writes=True)
    small = {"model.path": "llama", "data.partition": "iid"}
    with pytest.raises(DataError, match=r"^train: row 2: the chat has no answer"):
        fedcore.simulate(trained, train=[*CHATS[:1], CHATS[1][:1], *CHATS[2:]], test=CHATS, overrides=small)
    assert not (place / "runs").exists()


def test_a_reference_is_trained_on_request(trained: dict[str, Any]) -> None:
    run = fedcore.simulate(trained, train=ROWS, test=HELD, reference=True)
    assert run.summary["global"]["reference"]["rows"] == run.summary["global"]["final"]["rows"]


def test_a_reference_needs_rows(untrained: dict[str, Any], place: Path) -> None:
    with pytest.raises(fedcore.ConfigError, match="leave the reference out"):
        fedcore.simulate(untrained, run_dir="none", reference=True)
    assert not (place / "none").exists()


def test_paths_are_files_as_in_the_configuration(trained: dict[str, Any], place: Path) -> None:
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    run = fedcore.simulate(trained, train="rows.jsonl", test=HELD)
    assert run.config.data.train == str(place / "rows.jsonl")
    assert run.config.data.test == str(place / "runs" / "tiny" / "data" / "test.jsonl")


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"strategy": "fedprox"}, ConfigError, "^strategy.name: expected one of fedspine, .*; got 'fedprox'$"),
        ({"strategy": print}, ConfigError, "^strategy: expected a name in quotes, got builtin_function_or_method$"),
        ({"rounds": 0}, ConfigError, "^run.rounds must be at least 1"),
        ({"rounds": "3"}, ConfigError, "^run.rounds: expected a whole number, got '3'$"),
        (
            {"overrides": {"training.local_step": 3}},
            ConfigError,
            "^unknown config key training.local_step; did you mean",
        ),
        ({"overrides": {"model.path": "missing/model/here"}}, ModelError, "missing/model/here"),
        ({"overrides": {"fleet.class.phone.count": 0}}, ConfigError, "^fleet.class phone: count must be at least 1"),
        ({"train": [1, 2]}, DataError, "^train: row 1: expected a dict"),
        ({"train": [{"text": "a", "lable": 1}]}, DataError, "^train: row 1: no column 'label'; did you mean 'lable'"),
        (
            {"train": ROWS[::2], "test": HELD[1:]},
            DataError,
            "^train has only the label 'it is bad'; a classifier needs at least two$",
        ),
        (
            {"train": ROWS, "test": [{"text": "a", "label": "so"}]},
            DataError,
            "^test has labels that no row of train has",
        ),
        ({"train": "missing.csv"}, DataError, "^missing.csv: no such file or folder"),
        ({"train": ROWS, "test": HELD, "run_dir": "model"}, RunError, "^model exists and is not empty"),
        (
            {"train": ROWS, "test": HELD, "run_dir": "/proc/run"},
            RunError,
            "^/proc/run: .*; name a folder with run_dir=$",
        ),
    ],
)
def test_a_mistake_is_told_and_leaves_nothing(
    trained: dict[str, Any], place: Path, asked: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fedcore.simulate(trained, **asked)
    assert not (place / "runs").exists()


@pytest.mark.parametrize("where", ["train", "test"])
def test_rows_that_the_model_cannot_read_are_told_and_leave_nothing(
    trained: dict[str, Any], place: Path, where: str
) -> None:
    pad_beyond_vocabulary(place / "model")
    asked = {"train": ROWS, "test": HELD}
    asked[where] = [*asked[where], {"text": "<late-pad>", "label": "it is good"}]
    with pytest.raises(ModelError, match="the tokenizer gives id 64, the model knows 64 ids"):
        fedcore.simulate(trained, **asked)
    assert not (place / "runs").exists()


def in_memory() -> dict[str, int]:
    """What is large in a run: the bytes of tensors, and the objects that hold them and the rows."""
    large = (torch.nn.Module, Engine, Driver, VirtualTrainer, ModelEvaluator, EncodedRows)
    objects = gc.get_objects()
    bytes_of = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in objects if _plain(each)}
    counts = {kind.__name__: sum(isinstance(each, kind) for each in objects) for kind in large}
    return counts | {"tensor bytes": sum(bytes_of.values())}


def _plain(each: object) -> bool:
    return type(each) in (torch.Tensor, torch.nn.Parameter) and each.device.type == "cpu"  # type: ignore[attr-defined]


@pytest.mark.parametrize("training", ["one-by-one", "batched"])
def test_a_finished_simulation_leaves_nothing_large_in_memory(
    trained: dict[str, Any], place: Path, training: str
) -> None:
    def simulate() -> fedcore.Run:
        changes = {
            "simulation.training": training,
            "simulation.exports": True,
            "fleet.class.phone.target_sparsity": 0.5,
        }
        return fedcore.simulate(trained, train=ROWS, test=HELD, overrides=changes)

    assert list((simulate().path / "exports").iterdir()), "and what libraries keep of their first use is there now"
    gc.collect()
    before = in_memory()
    gc.disable()  # Python looks for cycles so seldom that several runs' models would be in memory together
    try:
        simulate(), simulate()
        assert in_memory() == before
    finally:
        gc.enable()


UNGUARDED = """
import multiprocessing
import fedcore

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=print)
    process.start()
    process.join()
else:
    fedcore.simulate("none.toml", run_dir="again")
"""


def test_a_script_without_a_guard_is_told(untrained: dict[str, Any], place: Path) -> None:
    """A process that trains imports the script, which would simulate once more."""
    (place / "none.toml").write_text(to_toml(fedcore.load_config(untrained)))
    (place / "script.py").write_text(UNGUARDED)
    done = subprocess.run([sys.executable, "script.py"], cwd=place, capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines()[-1].endswith(
        'put the call of fedcore.simulate under `if __name__ == "__main__":`: processes import the script'
    )
    assert not (place / "again").exists()

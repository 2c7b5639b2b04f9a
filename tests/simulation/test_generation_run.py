"""Runs of models that write: simulated ones here, whole processes in tests/whole/test_writing_fleet.py."""

import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from fedcore.client.evaluation import answer_libraries
from fedcore.core.config.toml import parse_config
from fedcore.core.contract.protocols import Json
from fedcore.core.errors import ConfigError, DataError, ModelError
from fedcore.core.tasks.classification import CLASSIFICATION
from fedcore.core.tasks.generation import GENERATION
from fedcore.core.tasks.options import TaskOptions
from fedcore.local_fleet.report import print_report
from fedcore.nn.training.teacher import AnswerStates
from fedcore.server.run.journal import read_events
from fedcore.server.run.run import Run
from fedcore.server.run.run_folder import RunFolder
from fedcore.simulation.run import simulate
from fedcore.simulation.setup import read_setup
from tests.simulation.virtual import Stopping
from tests.tiny_models import tiny_model

CONFIG = """
[run]
name = "written"
rounds = 2
[task]
kind = "generation"
generated_rows = 6
answer_tokens = 8
[model]
path = "{model}"
max_length = 16
[data]
train = "{rows}"
partition = "iid"
[strategy]
ranks = [2]
warmup_rounds = 1
recovery_rounds = 0
bandit = "fixed"
target_sparsity = 0.3
[training]
local_steps = 8
batch_size = 4
learning_rate = 0.01
codec = "identity"
[evaluation]
rows_per_round = 8
[simulation]
workers = 1
[[fleet.class]]
name = "nx"
count = 2
"""


def dialogues(count: int = 60) -> list[tuple[str, str]]:
    drawn = random.Random(0)
    pairs = []
    for _ in range(count):
        word = drawn.choice(("good", "great", "bad", "dull"))
        noise = " ".join(drawn.choices(("the", "a", "very", "plot", "actor"), k=5))
        pairs.append((f"{noise} was {word}", "good film" if word in ("good", "great") else "not very good"))
    return pairs


FORMS: dict[str, Any] = {
    "prompt and response": lambda asked, told: {"prompt": asked, "response": [told, "a film"]},
    "prompt and completion": lambda asked, told: {"prompt": asked, "completion": told},
    "messages": lambda asked, told: {
        "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]
    },
    "text": lambda asked, told: {"text": f"{asked} {told}"},
}


def written(root: Path, form: str = "prompt and response", **how: bool) -> str:
    rows = [json.dumps(FORMS[form](*pair)) for pair in dialogues()]
    (root / "rows.jsonl").write_text("\n".join(rows) + "\n")
    return CONFIG.format(model=tiny_model(root / "llama", "llama", writes=True, **how), rows=root / "rows.jsonl")


def run(text: str, root: Path, *overrides: str) -> Json:
    setup = read_setup(parse_config(text, overrides))
    root.mkdir()
    return simulate(setup, Run.create(RunFolder(root), setup.config, setup.model))


@pytest.mark.parametrize("tied", [True, False])
def test_a_run_trains_prunes_measures_and_exports_a_model_that_writes(tmp_path: Path, tied: bool) -> None:
    summary = run(written(tmp_path, tied=tied), tmp_path / "run")
    untrained, final = summary["global"]["untrained"], summary["global"]["final"]
    delivered = summary["classes"]["nx"]
    assert final["perplexity"] < untrained["perplexity"] and summary["run"]["labels"] == []
    assert delivered["realised_sparsity"] > 0.2 and delivered["parameters"] < delivered["dense_parameters"]
    for name in ("exact_match", "token_accuracy", "chrf", "rouge_l"):
        assert delivered["test"][name] is not None
    assert len(final["samples"]) == 5 and set(final["samples"][0]) == {"prompt", "reference", "answer"}
    events = [event for event in read_events(tmp_path / "run" / "events.jsonl") if event["event"] == "evaluated"]
    assert all(event.get("samples") or event.get("metrics", {}).get("samples") for event in events)
    assert summary["floors"]["majority"] is None and summary["floors"]["untrained"]["perplexity"] > 2
    shown = io.StringIO()
    print_report(Console(file=shown, width=120), summary)
    assert "perplexity" in shown.getvalue() and final["samples"][0]["prompt"] in shown.getvalue()
    exported(tmp_path / "run" / "exports" / "nx")
    adapted(tmp_path / "run" / "global")


def exported(folder: Path) -> None:
    """Reopen an export with plain transformers: the probe's logits, and an answer that ends."""
    model = writes(folder)
    probe = load_file(folder / "probe.safetensors")
    logits = probe.pop("logits")
    with torch.no_grad():
        torch.testing.assert_close(model(**probe).logits, logits, rtol=1e-4, atol=1e-5)


def writes(folder: Path) -> Any:
    """Let plain transformers write with an exported model, and return it."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert model.config.model_type == "llama" and model.generation_config.eos_token_id == 3
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = tokenizer("the film was good\n", return_tensors="pt")
    assert model.generate(**asked, max_new_tokens=5, do_sample=False).shape[1] > asked["input_ids"].shape[1]
    return model


def adapted(folder: Path) -> None:
    """The global adapter is one of a causal language model, without a head."""
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["task_type"] == "CAUSAL_LM" and not (folder / "head.safetensors").exists()
    assert all(name.startswith("base_model.model.model.") for name in load_file(folder / "adapter_model.safetensors"))
    assert "AutoModelForCausalLM" in (folder / "README.md").read_text(encoding="utf-8")


def test_a_run_that_was_interrupted_resumes_to_the_same_bits(tmp_path: Path) -> None:
    text = written(tmp_path)
    run(text, tmp_path / "whole", "simulation.exports=false")
    setup = read_setup(parse_config(text, ["simulation.exports=false"]))
    (tmp_path / "broken").mkdir()
    folder = RunFolder(tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        simulate(setup, Run.create(folder, setup.config, setup.model), [Stopping(1)])
    simulate(setup, Run.resume(folder, setup.model))
    one, other = (load_file(tmp_path / name / "global" / "adapter_model.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("form", ["prompt and completion", "messages", "text"])
def test_every_form_of_rows_is_found_by_its_columns(tmp_path: Path, form: str) -> None:
    summary = run(written(tmp_path, form), tmp_path / "run", "task.template=chatml", "simulation.exports=false")
    final = summary["global"]["final"]
    assert final["perplexity"] < summary["global"]["untrained"]["perplexity"]
    assert (final["exact_match"] is None) == (form == "text")


def test_rows_may_be_dealt_by_a_column(tmp_path: Path) -> None:
    text = written(tmp_path)
    rows = [
        {"prompt": asked, "response": told, "lang": ("en", "de")[row % 2]}
        for row, (asked, told) in enumerate(dialogues())
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    setup = read_setup(parse_config(text, ["data.partition=by:lang"]))
    assert setup.training is not None
    shares = [{setup.training.groups[row] for row in device.rows} for device in setup.fleet.devices.values()]
    assert sorted(shares, key=str) == [{"de"}, {"en"}]


def test_the_example_is_a_run_of_this_task() -> None:
    config = parse_config((Path(__file__).parents[2] / "examples" / "chat.toml").read_text(encoding="utf-8"))
    assert config.task.kind == "generation" and len(list(config.devices())) == 4


def test_columns_may_be_called_otherwise(tmp_path: Path) -> None:
    text = written(tmp_path)
    lines = [json.dumps({"q": asked, "a": told}) for asked, told in dialogues(20)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    setup = read_setup(parse_config(text, ["data.text=q", "data.label=a"]))
    assert setup.training is not None and json.loads(setup.training.labels[0])[0] in ("good film", "not very good")
    with pytest.raises(DataError, match=r"no columns of task generation found; expected one of: messages, prompt and"):
        read_setup(parse_config(text))


def test_a_cut_device_learns_from_its_dense_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counting(rows: AnswerStates, indices: Any) -> torch.Tensor:
        asked.append(len(indices))
        return torch.cat([rows.rows[index] for index in indices])

    monkeypatch.setattr(AnswerStates, "__getitem__", counting)
    text, adapters = written(tmp_path), []
    for name, share in (("alone", "0"), ("taught", "0.8")):
        overrides = (f"training.distill={share}", "training.handout=whole", "simulation.exports=false")
        summary = run(text, tmp_path / name, *overrides)
        assert summary["global"]["final"]["perplexity"] < summary["global"]["untrained"]["perplexity"]
        adapters.append(load_file(next((tmp_path / name / "global").glob("*.safetensors"))))
    assert len(asked) == 2 * 8, "both devices, in the round with a cut; nobody in the one before, and none without it"
    assert any(not torch.equal(value, adapters[1][name]) for name, value in adapters[0].items())


def test_general_texts_are_replayed(tmp_path: Path) -> None:
    text, adapters = written(tmp_path), []
    (tmp_path / "texts.jsonl").write_text('{"text": "the plot was great and very dull"}\n' * 3)
    for share in ("0", "0.5"):
        overrides = (
            f"data.replay={tmp_path / 'texts.jsonl'}",
            f"data.replay_share={share}",
            "simulation.exports=false",
        )
        run(text, tmp_path / f"run-{share}", *overrides)
        adapters.append(load_file(next((tmp_path / f"run-{share}" / "global").glob("*.safetensors"))))
    assert any(not torch.equal(value, adapters[1][name]) for name, value in adapters[0].items())


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("data.partition=dirichlet", ConfigError, "deals rows by label, and rows of task generation have none"),
        ("model.head=last", ModelError, "a model that writes has its own output layer"),
        ("data.replay=nowhere.jsonl", DataError, "nowhere.jsonl"),
        (("data.replay=x", "training.batch_size=1"), ConfigError, "set training.batch_size = 2"),
        ("data.text=prompt", DataError, "no column 'label'"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, override: str | tuple[str, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_setup(parse_config(written(tmp_path), [override] if isinstance(override, str) else override))


def test_a_file_without_a_text_is_refused(tmp_path: Path) -> None:
    text = written(tmp_path)
    (tmp_path / "texts.jsonl").write_text("")
    with pytest.raises(DataError, match=r"texts\.jsonl"):
        read_setup(parse_config(text, [f"data.replay={tmp_path / 'texts.jsonl'}"]))


def test_a_model_that_only_reads_is_refused(tmp_path: Path) -> None:
    text = written(tmp_path).replace(str(tmp_path / "llama"), str(tiny_model(tmp_path / "bert", "bert")))
    with pytest.raises(ModelError, match="reads and does not write; take a causal language model"):
        read_setup(parse_config(text))


def test_rows_without_an_answer_are_told_by_their_lines(tmp_path: Path) -> None:
    text = written(tmp_path)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": "the film", "response": ""}) + "\n")
    with pytest.raises(DataError, match=r"rows.jsonl: line 61: the answer is empty or no text"):
        read_setup(parse_config(text))


def test_figures_without_their_library_are_named_when_a_run_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = answer_libraries.find_spec
    gone = {"rouge_score"}
    monkeypatch.setattr(answer_libraries, "find_spec", lambda name: None if name in gone else known(name))
    run(written(tmp_path), tmp_path / "run", "run.rounds=1", "simulation.exports=false")
    warnings = [each for each in read_events(tmp_path / "run" / "events.jsonl") if each["event"] == "warning"]
    expected = "ROUGE-L is left out, for want of rouge_score: pip install 'fedcore[rouge]'"
    assert [each["message"] for each in warnings if "left out" in each["message"]] == [expected]
    gone.add("sacrebleu")
    (both,) = answer_libraries.left_out(GENERATION, TaskOptions())
    assert both.startswith("chrF and ROUGE-L are left out") and "'fedcore[client,rouge]'" in both
    assert answer_libraries.left_out(GENERATION, TaskOptions(generated_rows=0)) == ()
    assert answer_libraries.left_out(CLASSIFICATION, TaskOptions()) == ()


def test_what_is_cut_is_told(tmp_path: Path) -> None:
    run(written(tmp_path), tmp_path / "run", "model.max_length=8", "run.rounds=1", "simulation.exports=false")
    warnings = [
        event["message"] for event in read_events(tmp_path / "run" / "events.jsonl") if event["event"] == "warning"
    ]
    assert any("training rows:" in each and "lose the beginning of the question" in each for each in warnings)

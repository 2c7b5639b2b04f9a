"""A simulated run that removes whole layers: trained, aggregated, resumed and exported as models with fewer blocks."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification

from fedcore.core.config.toml import parse_config
from fedcore.core.contract.protocols import Json
from fedcore.core.errors import ConfigError
from fedcore.core.model.keep_set import KeepSet
from fedcore.server.run.inspect_run import replay_run
from fedcore.server.run.journal import read_events
from fedcore.server.run.run import Run
from fedcore.server.run.run_folder import RunFolder
from fedcore.simulation.run import simulate
from fedcore.simulation.setup import read_setup
from tests.simulation.virtual import Stopping
from tests.tiny_models import tiny_model
from tests.whole.stage import texts

CONFIG = """
[run]
name = "deep"
rounds = 4
[model]
path = "{model}"
max_length = 16
[data]
train = "{rows}"
partition = "iid"
[strategy]
remove = ["heads", "channels", "layers"]
ranks = [2]
warmup_rounds = 1
recovery_rounds = 1
bandit = "fixed"
target_sparsity = 0.5
pace = "off"
[training]
local_steps = 4
batch_size = 4
learning_rate = 0.01
codec = "bf16+zstd"
[evaluation]
rows_per_round = 8
[simulation]
workers = 1
[[fleet.class]]
name = "large"
count = 2
target_sparsity = 0.3
[[fleet.class]]
name = "small"
count = 2
target_sparsity = 0.7
"""


def written(root: Path, kind: str, layers: int = 4) -> str:
    rows = root / "rows.csv"
    rows.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in texts(("neg", "pos"), 120)))
    return CONFIG.format(model=tiny_model(root / kind, kind, layers=layers), rows=rows)


def run(text: str, root: Path, *overrides: str) -> Json:
    setup = read_setup(parse_config(text, overrides), lambda line: None)
    root.mkdir()
    return simulate(setup, Run.create(RunFolder(root), setup.config, setup.model))


def kept(root: Path, name: str) -> KeepSet:
    return KeepSet.from_bytes((root / "exports" / name / "keep_set.json").read_bytes())


@pytest.mark.parametrize("kind", ["bert", "llama-gqa"])
def test_layers_leave_along_one_order_and_exports_open_with_fewer_blocks(tmp_path: Path, kind: str) -> None:
    text = written(tmp_path, kind)
    summary = run(text, tmp_path / "run", 'strategy.remove=["layers"]')
    large, small = kept(tmp_path / "run", "large"), kept(tmp_path / "run", "small")
    assert (len(large.layers), len(small.layers)) == (3, 1), "30 and 70 % of four layers"
    assert small.is_subset_of(large) and large.counts.removed_layers == 1
    assert summary["classes"]["small"]["layers_kept"] == 1 and summary["classes"]["small"]["layers_dense"] == 4
    for name, keep_set in (("large", large), ("small", small)):
        folder = tmp_path / "run" / "exports" / name
        config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
        assert config.num_hidden_layers == len(keep_set.layers)
        model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True).eval()
        probe = load_file(folder / "probe.safetensors")
        expected = probe.pop("logits")
        with torch.no_grad():
            torch.testing.assert_close(model(**probe).logits, expected, atol=1e-5, rtol=1e-5)


def test_all_three_kinds_go_by_measured_harm_and_batched_training_agrees(tmp_path: Path) -> None:
    text = written(tmp_path, "llama")
    run(text, tmp_path / "batched")
    run(text, tmp_path / "single", "simulation.training=one-by-one")
    choices = [each for each in read_events(tmp_path / "batched" / "events.jsonl") if each["event"] == "choice"]
    assert any(each["realised"].get("removed_layers") for each in choices), "some device lost a layer on the way"
    assert any(each["realised"]["channels"] < 48 for each in choices), "and all of them channels"
    for name in ("large", "small"):
        batched, single = kept(tmp_path / "batched", name), kept(tmp_path / "single", name)
        assert batched.counts == single.counts


def test_an_interrupted_run_goes_on_along_the_same_order(tmp_path: Path) -> None:
    text = written(tmp_path, "bert")
    setup = read_setup(parse_config(text, ['strategy.remove=["layers"]']), lambda line: None)
    parts = RunFolder(tmp_path / "parts")
    parts.root.mkdir()
    with pytest.raises(KeyboardInterrupt):
        simulate(setup, Run.create(parts, setup.config, setup.model), observers=[Stopping(2)])
    simulate(setup, Run.resume(parts, setup.model))
    assert replay_run(parts) == 16
    large, small = kept(parts.root, "large"), kept(parts.root, "small")
    assert small.is_subset_of(large) and small.counts.removed_layers == 3
    realised = [each["realised"] for each in read_events(parts.events) if each["event"] == "choice"]
    gone = [each.get("removed_layers", 0) for each in realised]
    assert gone[:4] == [0] * 4 and max(gone) == small.counts.removed_layers


def test_rules_that_multiply_every_layer_and_several_orders_are_refused(tmp_path: Path) -> None:
    text = written(tmp_path, "bert")
    with pytest.raises(ConfigError, match="multiplies the factors of every layer"):
        run(text, tmp_path / "a", "strategy.aggregator=flora")
    with pytest.raises(ConfigError, match="one removal order of the whole fleet"):
        parse_config(text, ["strategy.order=class"])

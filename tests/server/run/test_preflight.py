import json
from dataclasses import replace
from pathlib import Path

import pytest

import fedcore.server.run.preflight as module
from fedcore.core.config.tables import ClassConfig, Config
from fedcore.core.config.toml import parse_config, to_toml
from fedcore.core.errors import ConfigError, JoinRefused, ModelError, RunError
from fedcore.core.rounds.result import RoundResult
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.preflight import check_fleet_fits, check_run, check_unfinished
from fedcore.server.run.run_folder import RunFolder
from fedcore.server.run.turn_record import TurnRecord
from tests.tiny_run import MODEL, tiny_config, write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preflight") / "model"
    write_model(folder)
    return folder


def test_a_run_that_can_begin_has_its_strategy(model: Path) -> None:
    assert check_run(tiny_config(model), model).name == "fedavg-lora"
    assert check_run(tiny_config(model, ["data.labels=[]", "strategy.name=fedspine"]), model).name == "fedspine"


def test_general_texts_are_for_models_that_write(model: Path) -> None:
    with pytest.raises(ConfigError, match="general texts are for models that write, and the task is classification"):
        check_run(tiny_config(model, ["data.replay=texts.jsonl", "task.kind=classification"]), model)


@pytest.mark.parametrize(
    ("override", "error", "part"),
    [
        ("strategy.name=x", ConfigError, "strategy.name"),
        ("strategy.bandit=x", ConfigError, "strategy.bandit"),
        ("strategy.aggregator=x", ConfigError, "strategy.aggregator"),
        ("training.codec=x", ConfigError, "training.codec: expected"),
        ("training.codec=topk:2", ConfigError, r"training.codec: topk:SHARE needs a share in \(0, 1\]"),
        ("training.codec=delta+bf16", ConfigError, "training.codec 'delta"),
        ("training.downlink=half", ConfigError, "training.downlink: expected one of full, delta, bf16"),
        ("model.max_length=9", ConfigError, "reads at most 8 tokens"),
        ("model.head=stock", ModelError, "use head = 'mean'"),
    ],
)
def test_what_cannot_run_is_told(model: Path, override: str, error: type[Exception], part: str) -> None:
    with pytest.raises(error, match=part):
        check_run(tiny_config(model, [override]), model)


def test_the_codec_of_a_class_is_checked_too(model: Path) -> None:
    config = tiny_config(model)
    assert check_run(replace(config, classes=(ClassConfig(name="a", codec="ef+int8+zstd"),)), model)
    with pytest.raises(ConfigError, match=r"fleet\.class a: codec: expected parts joined"):
        check_run(replace(config, classes=(ClassConfig(name="a", codec="int9"),)), model)


def test_error_feedback_is_refused_where_every_round_has_a_new_basis(model: Path) -> None:
    bundling = ["strategy.aggregator=delta-stack", "training.codec=ef+topk:0.05+int8"]
    with pytest.raises(ConfigError, match=r"ef carries on what a mean of factors left out.*or 'topk:0.05\+int8'"):
        check_run(tiny_config(model, bundling), model)
    config = tiny_config(model, bundling[:1])
    with pytest.raises(ConfigError, match=r"fleet\.class a: codec: ef carries on"):
        check_run(replace(config, classes=(ClassConfig(name="a", codec="ef+int8"),)), model)


def test_a_robertas_first_positions_are_not_for_tokens(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_model(folder, MODEL | {"model_type": "roberta", "max_position_embeddings": 10})
    check_run(tiny_config(folder), folder)
    with pytest.raises(ConfigError, match="max_length is 9, but this model reads at most 8"):
        check_run(tiny_config(folder, ["model.max_length=9"]), folder)
    other = tmp_path / "other"
    write_model(other, MODEL | {"model_type": "xlm-roberta", "max_position_embeddings": 11, "pad_token_id": 3})
    with pytest.raises(ConfigError, match="max_length is 8, but this model reads at most 7"):
        check_run(tiny_config(other, ["model.max_length=8"]), other)


def test_a_family_that_cannot_be_pruned_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(ModelError, match="cannot prune a model of type 't5'"):
        check_run(Config(), tmp_path)


def fleet(model: Path, *limits_mb: float, needed: int) -> Config:
    classes = tuple(ClassConfig(name=f"c{index}", memory_mb=limit) for index, limit in enumerate(limits_mb))
    return replace(tiny_config(model, [f"coordinator.min_devices={needed}"]), classes=classes)


def test_layers_that_count_themselves_stay(model: Path) -> None:
    description = json.loads((model / "config.json").read_text())
    config = tiny_config(model, ['strategy.remove=["heads", "channels", "layers"]'])
    module._check_whole_layers(config, description)
    with pytest.raises(ConfigError, match=r'scale_attn_by_inverse_layer_idx.*leave "layers" out'):
        module._check_whole_layers(config, description | {"scale_attn_by_inverse_layer_idx": True})


def test_enough_devices_must_be_able_to_join(model: Path) -> None:
    for limits, needed in (((0.0, 0.0), 2), ((0.001, 0.0), 1), ((100.0, 100.0), 2)):
        config = fleet(model, *limits, needed=needed)
        check_fleet_fits(config, check_run(config, model))
    config = fleet(model, 0.001, 0.0, needed=2)
    with pytest.raises(JoinRefused, match=r"device c0-0 of class c0: training needs .*; 1 of 2 devices would be left"):
        check_fleet_fits(config, check_run(config, model))
    config = fleet(model, 0.0, needed=2)
    with pytest.raises(ConfigError, match=r"min_devices is 2, but the \[\[fleet.class\]\] tables make 1"):
        check_fleet_fits(config, check_run(config, model))


def run_folder(root: Path, *, next_round: int | None, summary: bool) -> RunFolder:
    folder = RunFolder(root)
    ledger = Ledger.create(folder.ledger, run_id="r", config_toml=to_toml(parse_config("")), fingerprint="f")
    closed = RoundResult(round=1, void=False, opened_at_s=0.0, closed_at_s=1.0, members=())
    ledger.commit_turn(
        TurnRecord(
            closed=closed,
            report={},
            outcomes=(),
            strategy_state={},
            void_streak=0,
            global_blobs=(),
            next_round=next_round,
            assignments=(),
        )
    )
    ledger.close()
    if summary:
        folder.summary.write_text("{}")
    return folder


def test_only_a_finished_run_with_its_summary_cannot_go_on(tmp_path: Path) -> None:
    check_unfinished(RunFolder(tmp_path))  # nothing was begun
    for name, next_round, summary in (("open", 2, False), ("unmeasured", None, False)):
        (tmp_path / name).mkdir()
        check_unfinished(run_folder(tmp_path / name, next_round=next_round, summary=summary))
    (tmp_path / "done").mkdir()
    with pytest.raises(RunError, match="done has finished; look at it with: fedcore show"):
        check_unfinished(run_folder(tmp_path / "done", next_round=None, summary=True))


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("quantization_config", {"bits": 4}, r"config\.json: the weights are quantized"),
        ("position_embedding_type", "relative_key", r"position_embedding_type 'relative_key' is not supported"),
    ],
)
def test_what_every_device_would_refuse_is_refused_here(tmp_path: Path, key: str, value: object, part: str) -> None:
    write_model(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text(json.dumps(MODEL | {key: value}))
    with pytest.raises(ModelError, match=part):
        check_run(tiny_config(tmp_path / "model"), tmp_path / "model")


def test_weights_by_a_name_that_no_device_looks_for_are_refused_here(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / "adapter.safetensors")
    with pytest.raises(ModelError, match=r"found adapter\.safetensors; expected model\.safetensors or"):
        check_run(tiny_config(tmp_path / "model"), tmp_path / "model")

"""The device behind a Flower node: its join, its rows, and the one warm model of a process."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import fedcore.client.flower.device as module
from fedcore.client.data.rows import Rows
from fedcore.client.flower.device import join_of, rows_of, texts_of, warm_trainer
from fedcore.client.flower.settings import NodeSettings
from fedcore.client.options import DataOptions, DeviceLimits
from fedcore.client.training.trainer import ModelSource
from fedcore.core.codec.grammar import PARTS
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.errors import ConfigError
from fedcore.protos.values import Join, Role
from fedcore.protos.wire import PROTOCOL
from fedcore.storage.models.checkpoint import fingerprint
from tests.client.device.test_arrival import HERE
from tests.tiny_run import write_model


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Forget what other tests of this process have loaded."""
    for cached in (rows_of, texts_of, module._trainer):
        cached.cache_clear()
    yield
    for cached in (rows_of, texts_of, module._trainer):
        cached.cache_clear()


@pytest.fixture
def settings(tmp_path: Path) -> NodeSettings:
    write_model(tmp_path / "base")
    (tmp_path / "rows.csv").write_text("text,label\none,b\ntwo,a\nthree,b\n")
    return NodeSettings(
        name="cam-1",
        limits=DeviceLimits(device_class="nx", memory_mb=256.0, slowdown=2.0),
        model=str(tmp_path / "base"),
        data=DataOptions(train=str(tmp_path / "rows.csv"), test=None, text=("text",), label="label", test_fraction=0.0),
    )


def test_a_node_joins_as_a_device_does(settings: NodeSettings) -> None:
    assert join_of(settings, HERE) == Join(
        protocol_min=PROTOCOL,
        protocol_max=PROTOCOL,
        role=Role.DEVICE,
        name="cam-1",
        device_uuid="cam-1",
        epoch=1,
        profile=DeviceProfile(
            name="cam-1",
            device_class="nx",
            num_examples=3,
            memory_mb=256.0,
            slowdown=2.0,
            label_counts=(("a", 1), ("b", 2)),
            codecs=PARTS,
        ),
        fingerprint=fingerprint(Path(settings.model)),
        max_length=HERE.max_length,
        labels=("a", "b"),
    )


@pytest.mark.parametrize(
    ("own", "of_run", "said"),
    [("", "", ""), ("", "bfloat16", "bfloat16"), ("float32", "bfloat16", ""), ("bfloat16", "float32", "bfloat16")],
)
def test_a_node_says_the_precision_that_it_trains_in(settings: NodeSettings, own: str, of_run: str, said: str) -> None:
    chosen, run = replace(settings, device="cpu", precision=own), replace(HERE, precision=of_run)
    profile = join_of(chosen, run).profile
    assert profile is not None and profile.precision == said
    assert module.device_and_precision(chosen, run) == ("cpu", said or "float32")


def test_a_precision_that_there_is_not_is_told(settings: NodeSettings) -> None:
    with pytest.raises(ConfigError, match=r"training\.precision: expected auto or one of"):
        join_of(replace(settings, precision="int3"), HERE)


def test_rows_are_read_once_in_a_process(settings: NodeSettings) -> None:
    rows = rows_of(settings.data)
    Path(settings.data.train).unlink()
    assert rows_of(settings.data) is rows and rows.labels == ("b", "a", "b")


def test_nodes_of_a_process_take_turns_at_one_trainer(settings: NodeSettings) -> None:
    source = ModelSource(
        folder=Path(settings.model), labels=("a", "b"), head="mean", dtype="float32", max_length=8, targets=("q",)
    )
    other = replace(settings, name="cam-2", data=replace(settings.data, shard=(1, 2), partition="iid"))
    first = warm_trainer(source, settings)
    assert len(first.rows) == 3 and first.slow._factor == 2.0
    second = warm_trainer(source, replace(other, limits=DeviceLimits(device_class="nx")))
    assert second is first and len(first.rows) < 3 and first.slow._factor == 1.0
    assert warm_trainer(replace(source, labels=("b", "a")), settings) is not first, "another run's model"


def test_general_texts_of_a_node_reach_the_trainer(settings: NodeSettings, tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text('{"text": "a general text"}\n')
    source = ModelSource(
        folder=Path(settings.model), labels=("a", "b"), head="mean", dtype="float32", max_length=8, targets=("q",)
    )
    replaying = replace(settings, data=replace(settings.data, replay=str(tmp_path / "texts.jsonl"), task="generation"))
    (tmp_path / "rows.csv").write_text("prompt,response\none,b\n")
    texts = warm_trainer(source, replaying).texts
    assert texts is not None and texts.texts == (("a general text",),)
    (tmp_path / "rows.csv").write_text("text,label\none,b\n")
    assert warm_trainer(source, settings).texts is None
    with pytest.raises(ConfigError, match="general texts are for models that write"):
        join_of(replaying.under("classification"), HERE)


def test_a_trainer_begins_without_rows(settings: NodeSettings) -> None:
    source = ModelSource(
        folder=Path(settings.model), labels=("a",), head="mean", dtype="float32", max_length=8, targets=()
    )
    assert module._trainer(source).rows == Rows(texts=(), labels=())

"""Our device as a ClientApp: what it answers to a join, to an assignment, and to messages that are none of ours."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

import fedcore.client.flower.app as module
import fedcore.client.flower.training as training
from fedcore.client.flower.app import client_app
from fedcore.client.flower.settings import NodeSettings
from fedcore.client.flower.state import NodeState
from fedcore.client.options import DataOptions, DeviceLimits
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.errors import DataError, OutOfMemory, ProtocolError
from fedcore.core.model.fingerprint import Fingerprint
from fedcore.protos.convert.device import description_to_bytes
from fedcore.protos.convert.stream import request_from_bytes, response_to_bytes
from fedcore.protos.records import BLOBS, JOIN, MESSAGES, RECORD, RUN
from fedcore.protos.values import (
    AssignmentFailure,
    BlobRef,
    Downward,
    Join,
    Role,
    RunDescription,
    UpdateSubmission,
    WireAssignment,
)
from tests.client.conftest import WELCOME, make_assignment
from tests.client.device.test_arrival import HERE
from tests.client.flower.conftest import context_of, message_of
from tests.tiny_run import device_report

SUBMISSION = UpdateSubmission(
    round=1, update=BlobRef(id="u", size=1), scores=None, keep_set="k", report=device_report()
)
JOINED = Join(
    protocol_min=1,
    protocol_max=1,
    role=Role.DEVICE,
    name="cam",
    device_uuid="cam",
    epoch=1,
    profile=DeviceProfile(name="cam", device_class="nx", num_examples=3),
    fingerprint=Fingerprint(tensors="", config="", tokenizer=""),
    max_length=8,
    labels=("a", "b"),
)


def settings_of(context: Context) -> NodeSettings:
    return NodeSettings(
        name="cam",
        limits=DeviceLimits(device_class="nx"),
        model="base",
        data=DataOptions(train="rows.csv", test=None, text=("text",), label="label", test_fraction=0.0),
        state=Path(str(context.node_config["state"])),
    )


def asking(*values: Downward, run: bool = True, arrays: ArrayRecord | None = None) -> RecordDict:
    facts: dict[str, Any] = {MESSAGES: [response_to_bytes(value) for value in values]}
    if run:
        facts[RUN] = description_to_bytes(HERE)
    content = RecordDict({RECORD: ConfigRecord(facts)})
    if arrays is not None:
        content[BLOBS] = arrays
    return content


def answer(reply: Message) -> Any:
    (data,) = reply.content.config_records[RECORD][MESSAGES]  # type: ignore[misc]
    return request_from_bytes(data)  # type: ignore[arg-type]


def test_a_node_answers_a_join_with_what_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[str, RunDescription]] = []

    def join(settings: NodeSettings, description: RunDescription) -> Join:
        asked.append((settings.name, description))
        return JOINED

    monkeypatch.setattr(module, "join_of", join)
    content = RecordDict({RECORD: ConfigRecord({RUN: description_to_bytes(HERE)})})
    reply = client_app(settings_of)(message_of(JOIN, content), context_of({"state": str(tmp_path)}))
    assert answer(reply) == JOINED and asked == [("cam", HERE)]
    assert set(reply.content) == {RECORD} and reply.metadata.reply_to_message_id == "m1"


class FakeTraining:
    """Stands for `train_assignment`."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.calls: list[tuple[WireAssignment, Sequence[str], Path]] = []

    def __call__(
        self, assignment: WireAssignment, arrays: ArrayRecord, source: Any, settings: NodeSettings, state: NodeState
    ) -> tuple[UpdateSubmission, ArrayRecord]:
        self.calls.append((assignment, list(arrays), state.folder.root))
        if self.fault is not None:
            raise self.fault
        return SUBMISSION, ArrayRecord({"u": Array(dtype="uint8", shape=(1,), stype="s", data=b"u")})


def trained(
    fake: FakeTraining, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arrays: ArrayRecord | None = None
) -> Message:
    monkeypatch.setattr(training, "train_assignment", fake)
    monkeypatch.setattr(training, "model_source_of", lambda welcome, description, settings: None)
    content = asking(WELCOME, make_assignment(), arrays=arrays)
    return client_app(settings_of)(message_of("train", content), context_of({"state": str(tmp_path / "node")}))


def test_an_assignment_is_answered_with_the_update_beside_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = FakeTraining()
    arrays = ArrayRecord({"b": Array(dtype="uint8", shape=(1,), stype="s", data=b"b")})
    reply = trained(fake, monkeypatch, tmp_path, arrays)
    assert answer(reply) == SUBMISSION and reply.content.array_records[BLOBS]["u"].data == b"u"
    assert fake.calls == [(make_assignment(), ["b"], tmp_path / "node")]


def test_an_assignment_without_payloads_is_answered_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = FakeTraining()
    assert answer(trained(fake, monkeypatch, tmp_path)) == SUBMISSION and fake.calls[0][1] == []


def test_running_out_of_memory_is_told_as_that(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    reply = trained(FakeTraining(OutOfMemory("8 MiB are free")), monkeypatch, tmp_path)
    assert answer(reply) == AssignmentFailure(round=1, message="8 MiB are free", out_of_memory=True)


@pytest.mark.parametrize("text", ["training diverged", "x" * 900])
def test_an_assignment_that_fails_is_answered_with_the_reason(
    text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reply = trained(FakeTraining(DataError(text)), monkeypatch, tmp_path)
    assert answer(reply) == AssignmentFailure(round=1, message=text[:500])
    assert BLOBS not in reply.content.array_records


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (RecordDict(), "a message without ours in it"),
        (asking(WELCOME), r"expected a welcome and an assignment, got \['Welcome'\]"),
        (asking(make_assignment(), WELCOME), r"got \['WireAssignment', 'Welcome'\]"),
        (RecordDict({RECORD: ConfigRecord({MESSAGES: 5})}), r"expected a welcome and an assignment, got \[\]"),
    ],
)
def test_another_message_is_refused(content: RecordDict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match=message):
        client_app(settings_of)(message_of("train", content), context_of({"state": str(tmp_path)}))


def test_an_assignment_without_the_runs_description_fails(tmp_path: Path) -> None:
    content = asking(WELCOME, make_assignment(), run=False)
    reply = client_app(settings_of)(message_of("train", content), context_of({"state": str(tmp_path)}))
    failure = AssignmentFailure(round=1, message="a message without the run's description; update the ServerApp")
    assert answer(reply) == failure

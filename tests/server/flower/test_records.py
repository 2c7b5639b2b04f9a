"""Our messages inside Flower's: payloads as arrays, once and whole, and what a reply lacks is said."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fedcore.core.errors import BlobCorrupt, ProtocolError
from fedcore.protos.convert.device import description_to_bytes
from fedcore.protos.convert.stream import request_to_bytes, response_from_bytes
from fedcore.protos.records import BLOBS, CONTAINER, MESSAGES, RECORD, RUN
from fedcore.protos.values import AssignmentFailure, BaseShift, BlobRef, WireAssignment
from fedcore.server.flower.records import arrays_of, assignment_content, join_content, message_in, submission
from fedcore.server.flower.round_driver import FlowerDriver
from fedcore.storage.blobs.name import blob_name
from fedcore.storage.blobs.store import BlobStore
from tests.server.conftest import TinyModel
from tests.server.flower.test_round_driver import begun
from tests.server.members.fake_parent import DESCRIPTION, WELCOME
from tests.tiny_tier import answer, assignment

FAILURE = AssignmentFailure(round=3, message="out of memory")


@pytest.fixture
def driver(tiny: TinyModel, tmp_path: Path) -> Iterator[FlowerDriver]:
    made = begun(tiny, tmp_path / "run")
    yield made
    made.close()


def content_of(*messages: object) -> RecordDict:
    return RecordDict({RECORD: ConfigRecord({MESSAGES: list(messages)})})  # type: ignore[dict-item]


def array(data: bytes) -> Array:
    return Array(dtype="uint8", shape=(len(data),), stype=CONTAINER, data=data)


def test_a_node_is_asked_with_the_description() -> None:
    assert join_content(DESCRIPTION).config_records[RECORD][RUN] == description_to_bytes(DESCRIPTION)


def test_an_assignment_names_its_payloads_and_the_arrays_hold_them(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
    whole = BlobRef(id=blobs.put_bytes(b"whole shift"), size=11, name="1")
    step = BlobRef(id=blobs.put_bytes(b"step"), size=4, name="0-1")
    work = replace(assignment(), base_shift=BaseShift(whole=whole, steps=(step,)))
    content = assignment_content(work, WELCOME, DESCRIPTION, blobs)
    welcome, sent = (response_from_bytes(data) for data in content.config_records[RECORD][MESSAGES])  # type: ignore
    assert welcome == WELCOME and isinstance(sent, WireAssignment)
    assert sent.base_shift == BaseShift(whole=whole, steps=()) and not any(ref.inline for ref in sent.refs)
    arrays = content.array_records[BLOBS]
    assert {ref.id for ref in (*sent.refs, whole)} == set(arrays) and step.id not in arrays
    assert all(blob_name(value.data) == blob_id for blob_id, value in arrays.items())


def test_a_reply_holds_exactly_one_message_of_ours() -> None:
    data = request_to_bytes(FAILURE)
    assert message_in(content_of(data)) == FAILURE
    for content in (RecordDict(), content_of(), content_of(data, data), content_of("text")):
        with pytest.raises(ProtocolError, match="a reply without a message of ours"):
            message_in(content)


def test_payloads_of_an_update_are_spooled_under_their_hash(driver: FlowerDriver) -> None:
    work = assignment()
    data = b"x" * (1 << 17)
    sent = replace(answer("a", work), update=BlobRef(id=blob_name(data), size=len(data), name="update"), scores=None)
    received = submission(sent, RecordDict({BLOBS: ArrayRecord({blob_name(data): array(data)})}), work, driver)
    assert received == sent and driver.run.blobs.read_bytes(received.update.id) == data


@pytest.mark.parametrize(
    ("data", "limit", "error", "words"),
    [
        (None, 9, ProtocolError, "the payload 'update' is not in the reply"),
        (b"x" * 10, 9, ProtocolError, "update: 10 bytes, expected at most 9"),
        (b"other", 9, BlobCorrupt, "send them again"),
    ],
)
def test_a_payload_that_does_not_fit_is_refused(
    data: bytes | None, limit: int, error: type[Exception], words: str, driver: FlowerDriver
) -> None:
    work = replace(assignment(), max_upload_bytes=limit)
    ref = BlobRef(id=blob_name(b"right"), size=5, name="update")
    arrays = ArrayRecord({} if data is None else {ref.id: array(data)})
    with pytest.raises(error, match=words):
        submission(replace(answer("a", work), update=ref, scores=None), RecordDict({BLOBS: arrays}), work, driver)


def test_an_adapter_becomes_flowers_own_arrays() -> None:
    tensors = {"head.bias": np.arange(3, dtype=np.float32)}
    (value,) = arrays_of(tensors).values()
    np.testing.assert_array_equal(value.numpy(), tensors["head.bias"])

"""Contents of Flower's messages: what goes out is ours with payloads beside it, and what comes in is checked."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fedcore.core.errors import BlobCorrupt, ProtocolError
from fedcore.protos.convert.device import description_to_bytes
from fedcore.protos.convert.stream import request_to_bytes, response_from_bytes
from fedcore.protos.records import BLOBS, MESSAGES, RECORD
from fedcore.protos.values import AssignmentFailure, BaseShift, BlobRef, UpdateSubmission
from fedcore.server.flower.records import arrays_of, assignment_content, join_content, message_in, submission
from fedcore.server.flower.round_driver import FlowerDriver
from fedcore.storage.blobs.name import blob_name
from fedcore.storage.blobs.store import BlobStore
from tests.server.members.fake_parent import DESCRIPTION, WELCOME
from tests.tiny_run import device_report
from tests.tiny_tier import KEPT, assignment, small


@dataclass
class FakeSpool:
    """Stands for a driver, and notes what it stores."""

    stored: list[tuple[bytes, str]] = field(default_factory=list)

    def store(self, data: bytes, name: str) -> BlobRef:
        self.stored.append((data, name))
        return small(data, name)


def array(data: bytes) -> Array:
    return Array(dtype="uint8", shape=(len(data),), stype="any", data=data)


def update(data: bytes, scores: bytes | None = None) -> UpdateSubmission:
    return UpdateSubmission(
        round=1,
        update=BlobRef(id=blob_name(data), size=len(data), name="update"),
        scores=None if scores is None else BlobRef(id=blob_name(scores), size=len(scores), name="scores"),
        keep_set=KEPT.blob_id,
        report=device_report(),
    )


def beside(*payloads: tuple[str, bytes]) -> RecordDict:
    return RecordDict({BLOBS: ArrayRecord({name: array(data) for name, data in payloads})})


def test_an_assignment_has_every_payload_beside_it_and_none_inside(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
    whole = BlobRef(id=blobs.put_bytes(b"shift"), size=5, name="3")
    sent = replace(assignment(), base_shift=BaseShift(whole=whole, steps=(small(b"step", "2-3"),)))
    content = assignment_content(sent, WELCOME, DESCRIPTION, blobs)
    beside = {name: value.data for name, value in content.array_records[BLOBS].items()}
    assert beside == {blob_name(data): data for data in (KEPT.to_bytes(), b"head", b"block", b"shift")}
    welcome, inside = map(response_from_bytes, cast(list[bytes], content.config_records[RECORD][MESSAGES]))
    bare = sent.with_refs(lambda ref: replace(ref, inline=b""))
    assert welcome == WELCOME and inside == replace(bare, base_shift=BaseShift(whole=whole))


def test_a_join_is_asked_for_with_the_description_alone() -> None:
    assert dict(join_content(DESCRIPTION).config_records[RECORD]) == {"run": description_to_bytes(DESCRIPTION)}


def test_a_reply_has_exactly_one_message_of_ours() -> None:
    failure = AssignmentFailure(round=2, message="no memory")
    data = request_to_bytes(failure)
    assert message_in(RecordDict({RECORD: ConfigRecord({MESSAGES: [data]})})) == failure
    wrongs: list[list[bytes] | list[str] | bytes] = [[data, data], ["text"], data]
    for wrong in wrongs:
        with pytest.raises(ProtocolError, match="a reply without a message of ours"):
            message_in(RecordDict({RECORD: ConfigRecord({MESSAGES: wrong})}))
    with pytest.raises(ProtocolError, match="a reply without a message of ours"):
        message_in(RecordDict())


def test_a_submission_is_spooled_with_its_scores() -> None:
    spool, sent = FakeSpool(), update(b"values", b"scores")
    content = beside((blob_name(b"values"), b"values"), (blob_name(b"scores"), b"scores"))
    taken = submission(sent, content, assignment(max_upload_bytes=6), cast(FlowerDriver, spool))
    assert taken == replace(sent, update=small(b"values", "update"), scores=small(b"scores", "scores"))
    assert spool.stored == [(b"scores", "scores"), (b"values", "update")]


def test_a_payload_that_is_missing_too_large_or_another_is_refused() -> None:
    sent, name, spool = update(b"values"), blob_name(b"values"), FakeSpool()
    driver = cast(FlowerDriver, spool)
    with pytest.raises(ProtocolError, match="the payload 'update' is not in the reply"):
        submission(sent, RecordDict(), assignment(), driver)
    with pytest.raises(ProtocolError, match="update: 6 bytes, expected at most 5"):
        submission(sent, beside((name, b"values")), assignment(max_upload_bytes=5), driver)
    assert spool.stored == []
    with pytest.raises(BlobCorrupt, match=f"expected {name}, the bytes that came are {blob_name(b'others')}"):
        submission(sent, beside((name, b"others")), assignment(max_upload_bytes=6), driver)


def test_an_adapter_goes_to_flower_bit_by_bit() -> None:
    values = np.array([[1.5, -0.0], [np.inf, 2.0**-140]], dtype=np.float32)
    record = arrays_of({"layers.0.q.A": values})
    assert list(record) == ["layers.0.q.A"] and record["layers.0.q.A"].numpy().tobytes() == values.tobytes()

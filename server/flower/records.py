"""Convert between our messages and Flower's: assignments to message contents, reply contents to submissions."""

from dataclasses import replace

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fedcore.core.errors import BlobCorrupt, ProtocolError
from fedcore.core.model.adapter import Tensors
from fedcore.protos.convert.device import description_to_bytes
from fedcore.protos.convert.stream import request_from_bytes, response_to_bytes
from fedcore.protos.records import BLOBS, CONTAINER, MESSAGES, RECORD, RUN
from fedcore.protos.tier_values import AnyUpward
from fedcore.protos.values import BlobRef, RunDescription, UpdateSubmission, Welcome, WireAssignment
from fedcore.server.flower.round_driver import FlowerDriver
from fedcore.storage.blobs.store import BlobStore
from fedcore.transport.payload import payload


def join_content(description: RunDescription) -> RecordDict:
    """Return the content of a message that asks a node to join."""
    return RecordDict({RECORD: ConfigRecord({RUN: description_to_bytes(description)})})


def assignment_content(
    assignment: WireAssignment, welcome: Welcome, description: RunDescription, blobs: BlobStore
) -> RecordDict:
    """Return one device's assignment; every payload is an array, so that Flower's store holds equal ones once."""
    refs = assignment.refs
    # Whole: a node keeps nothing between messages, so it has no use for the steps.
    shift = None if assignment.base_shift is None else replace(assignment.base_shift, steps=())
    if shift is not None:
        refs = (*refs, shift.whole)
    bare = replace(assignment, base_shift=shift).with_refs(_without_bytes)
    messages = [response_to_bytes(welcome), response_to_bytes(bare)]
    return RecordDict(
        {
            RECORD: ConfigRecord({RUN: description_to_bytes(description), MESSAGES: messages}),
            BLOBS: ArrayRecord({ref.id: _array(payload(ref, blobs)) for ref in refs}),
        }
    )


def message_in(content: RecordDict) -> AnyUpward:
    """Return the message inside a reply; raises ProtocolError if there is none."""
    messages = content.config_records.get(RECORD, ConfigRecord()).get(MESSAGES)
    if not isinstance(messages, list) or len(messages) != 1 or not isinstance(messages[0], bytes):
        raise ProtocolError("a reply without a message of ours; run fedcore.client.flower's ClientApp on the nodes")
    return request_from_bytes(messages[0])


def submission(
    message: UpdateSubmission, content: RecordDict, assignment: WireAssignment, driver: FlowerDriver
) -> UpdateSubmission:
    """Return a device's submission with its payloads in the run's spool.

    Raises ProtocolError if a payload is missing or larger than the assignment allows, BlobCorrupt if its hash differs.
    """
    arrays: ArrayRecord = content.array_records.get(BLOBS, ArrayRecord())
    scores = None if message.scores is None else _spool(message.scores, arrays, assignment, driver)
    return replace(message, update=_spool(message.update, arrays, assignment, driver), scores=scores)


def _spool(ref: BlobRef, arrays: ArrayRecord, assignment: WireAssignment, driver: FlowerDriver) -> BlobRef:
    array = arrays.get(ref.id)
    if array is None:
        raise ProtocolError(f"the payload {ref.name!r} is not in the reply; send it beside the message")
    if len(array.data) > assignment.max_upload_bytes:
        raise ProtocolError(f"{ref.name}: {len(array.data)} bytes, expected at most {assignment.max_upload_bytes}")
    actual = driver.store(array.data, ref.name)
    if actual.id != ref.id:
        raise BlobCorrupt(f"expected {ref.id}, the bytes that came are {actual.id}; send them again")
    return actual


def _without_bytes(ref: BlobRef) -> BlobRef:
    return BlobRef(id=ref.id, size=ref.size, name=ref.name)


def _array(data: bytes) -> Array:
    return Array(dtype="uint8", shape=(len(data),), stype=CONTAINER, data=data)


def arrays_of(tensors: Tensors) -> ArrayRecord:
    """Return an adapter as Flower's own arrays."""
    return ArrayRecord({name: Array(np.asarray(value)) for name, value in tensors.items()})

"""Between our messages and Flower's: work into a message's content, a reply's content into what a device sent."""

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
    """Return what asks a node to join."""
    return RecordDict({RECORD: ConfigRecord({RUN: description_to_bytes(description)})})


def work_content(work: WireAssignment, welcome: Welcome, description: RunDescription, blobs: BlobStore) -> RecordDict:
    """Return one device's work: every payload an array of its own, so that Flower's store holds equal ones once."""
    refs = work.refs
    # Whole: a node keeps nothing between messages, and steps would be of no use to it.
    shift = None if work.base_shift is None else replace(work.base_shift, steps=())
    if shift is not None:
        refs = (*refs, shift.whole)
    bare = replace(work, base_shift=shift).with_refs(_bare)
    messages = [response_to_bytes(welcome), response_to_bytes(bare)]
    return RecordDict(
        {
            RECORD: ConfigRecord({RUN: description_to_bytes(description), MESSAGES: messages}),
            BLOBS: ArrayRecord({ref.id: _array(payload(ref, blobs)) for ref in refs}),
        }
    )


def said(content: RecordDict) -> AnyUpward:
    """Return the message inside a reply; raises ProtocolError where there is none."""
    messages = content.config_records.get(RECORD, ConfigRecord()).get(MESSAGES)
    if not isinstance(messages, list) or len(messages) != 1 or not isinstance(messages[0], bytes):
        raise ProtocolError("a reply without a message of ours; run fedcore.client.flower's ClientApp on the nodes")
    return request_from_bytes(messages[0])


def submission(
    sent: UpdateSubmission, content: RecordDict, work: WireAssignment, driver: FlowerDriver
) -> UpdateSubmission:
    """Return what a device submitted with its payloads in the run's spool.

    Raises ProtocolError where one is missing or larger than the assignment allows, BlobCorrupt where it is another one.
    """
    arrays: ArrayRecord = content.array_records.get(BLOBS, ArrayRecord())
    scores = None if sent.scores is None else _spooled(sent.scores, arrays, work, driver)
    return replace(sent, update=_spooled(sent.update, arrays, work, driver), scores=scores)


def _spooled(ref: BlobRef, arrays: ArrayRecord, work: WireAssignment, driver: FlowerDriver) -> BlobRef:
    array = arrays.get(ref.id)
    if array is None:
        raise ProtocolError(f"the payload {ref.name!r} is not in the reply; send it beside the message")
    if len(array.data) > work.max_upload_bytes:
        raise ProtocolError(f"{ref.name}: {len(array.data)} bytes, expected at most {work.max_upload_bytes}")
    stored = driver.stored(array.data, ref.name)
    if stored.id != ref.id:
        raise BlobCorrupt(f"expected {ref.id}, the bytes that came are {stored.id}; send them again")
    return stored


def _bare(ref: BlobRef) -> BlobRef:
    return BlobRef(id=ref.id, size=ref.size, name=ref.name)


def _array(data: bytes) -> Array:
    return Array(dtype="uint8", shape=(len(data),), stype=CONTAINER, data=data)


def arrays_of(tensors: Tensors) -> ArrayRecord:
    """Return an adapter as Flower's own arrays."""
    return ArrayRecord({name: Array(np.asarray(value)) for name, value in tensors.items()})

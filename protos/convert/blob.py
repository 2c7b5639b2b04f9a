"""Blob transfer messages."""

import re

from fedcore.core.errors import ProtocolError
from fedcore.protos.chunk import GET_TAG, PUT_TAG, ChunkMessage
from fedcore.protos.v1 import blob_pb2 as pb
from fedcore.protos.values import BaseShift, BlobRef, UploadHeader

_ROUND = re.compile(r"[0-9]{1,20}", re.ASCII)
_ROUNDS = re.compile(r"[0-9]{1,20}-[0-9]{1,20}", re.ASCII)


def ref_to_pb(ref: BlobRef) -> pb.BlobRef:
    """BlobRef value -> message."""
    return pb.BlobRef(
        id=ref.id,
        size=ref.size,
        name=ref.name,
        inline=ref.inline,
        delta_id=ref.delta_id,
        delta_base=ref.delta_base,
        delta_size=ref.delta_size,
    )


def ref_from_pb(message: pb.BlobRef) -> BlobRef:
    """BlobRef message -> value."""
    return BlobRef(
        id=message.id,
        size=message.size,
        name=message.name,
        inline=message.inline,
        delta_id=message.delta_id,
        delta_base=message.delta_base,
        delta_size=message.delta_size,
    )


def shift_to_pb(shift: BaseShift | None) -> pb.BaseShift | None:
    """BaseShift value -> message; None stays unset."""
    if shift is None:
        return None
    return pb.BaseShift(whole=ref_to_pb(shift.whole), steps=[ref_to_pb(ref) for ref in shift.steps])


def shift_from_pb(message: pb.BaseShift) -> BaseShift:
    """BaseShift message -> value; raises ProtocolError where a blob's name is not made of rounds."""
    shift = BaseShift(whole=ref_from_pb(message.whole), steps=tuple(ref_from_pb(ref) for ref in message.steps))
    if not (_ROUND.fullmatch(shift.whole.name) and all(_ROUNDS.fullmatch(ref.name) for ref in shift.steps)):
        names = [ref.name[:40] for ref in shift.refs[:3]]
        raise ProtocolError(f"base shift: expected blobs called by closed rounds, '7' and '6-7', got {names}")
    return shift


def get_request(blob_id: str, offset: int) -> pb.GetBlobRequest:
    """Ask for a blob from `offset` on."""
    return pb.GetBlobRequest(id=blob_id, offset=offset)


def get_response(chunk: bytes | memoryview) -> ChunkMessage:
    """Return the message of one chunk of a download."""
    return ChunkMessage(GET_TAG, chunk)


def stat_request(blob_id: str) -> pb.StatBlobRequest:
    """Ask how much of an upload has arrived."""
    return pb.StatBlobRequest(id=blob_id)


def stat_response(*, complete: bool, received: int) -> pb.StatBlobResponse:
    """Say how much of an upload has arrived."""
    return pb.StatBlobResponse(complete=complete, received=received)


def put_header(header: UploadHeader) -> pb.PutBlobRequest:
    """Return the first message of an upload."""
    return pb.PutBlobRequest(
        header=pb.PutBlobHeader(
            id=header.blob.id,
            size=header.blob.size,
            offset=header.offset,
            sender=header.sender,
            session=header.session,
            round=header.round,
        )
    )


def put_chunk(chunk: bytes | memoryview) -> ChunkMessage:
    """Return a later message of an upload: one chunk."""
    return ChunkMessage(PUT_TAG, chunk)


def put_header_from_pb(message: pb.PutBlobRequest | ChunkMessage) -> UploadHeader | None:
    """Return the header of an upload's first message, None where the message has none."""
    if isinstance(message, ChunkMessage) or not message.HasField("header"):
        return None
    header = message.header
    return UploadHeader(
        blob=BlobRef(id=header.id, size=header.size),
        offset=header.offset,
        sender=header.sender,
        session=header.session,
        round=header.round,
    )


def put_response(received: int) -> pb.PutBlobResponse:
    """Say how many bytes are here after an upload call."""
    return pb.PutBlobResponse(received=received)

"""Messages that carry one chunk of a blob, serialised without protobuf: it would copy a chunk three times, not once.

Their bytes equal those of protobuf's `PutBlobRequest(chunk=...)` and `GetBlobResponse(chunk=...)`. Protobuf itself
handles every message with other fields.
"""

from dataclasses import dataclass
from typing import Any

from fedcore.protos.v1 import blob_pb2 as pb

_LENGTH_DELIMITED = 2
GET_TAG = pb.GetBlobResponse.CHUNK_FIELD_NUMBER << 3 | _LENGTH_DELIMITED
PUT_TAG = pb.PutBlobRequest.CHUNK_FIELD_NUMBER << 3 | _LENGTH_DELIMITED
_MAX_DIGITS = 5  # of a length in base 128: enough for 32 GiB, more than any message may have


@dataclass(frozen=True, slots=True)
class ChunkMessage:
    """One chunk and the tag of its field; serialises like the protobuf message that has only this field."""

    tag: int
    chunk: bytes | memoryview

    def SerializeToString(self) -> bytes:
        """Return the message's bytes; copies the chunk once."""
        return b"".join((bytes((self.tag,)), _digits(len(self.chunk)), self.chunk))

    def ByteSize(self) -> int:
        """Return the length of the message's bytes."""
        return 1 + len(_digits(len(self.chunk))) + len(self.chunk)


def read_get_response(data: bytes) -> Any:
    """Parse a GetBlobResponse; its chunk is a view into `data`."""
    chunk = _only_chunk(data, GET_TAG)
    return pb.GetBlobResponse.FromString(data) if chunk is None else ChunkMessage(GET_TAG, chunk)


def read_put_request(data: bytes) -> Any:
    """Parse a PutBlobRequest; the chunk of every one but the first is a view into `data`."""
    chunk = _only_chunk(data, PUT_TAG)
    return pb.PutBlobRequest.FromString(data) if chunk is None else ChunkMessage(PUT_TAG, chunk)


def write_message(message: Any) -> bytes:
    """Return the bytes of a protobuf message or a ChunkMessage."""
    return bytes(message.SerializeToString())


def _only_chunk(data: bytes, tag: int) -> memoryview | None:
    """Return the bytes of field `tag` where the message consists of that field alone, else None."""
    if not data or data[0] != tag:
        return None
    size = 0
    for place, digit in enumerate(data[1 : 1 + _MAX_DIGITS]):
        size |= (digit & 0x7F) << 7 * place
        if digit < 0x80:
            begin = 2 + place
            return memoryview(data)[begin:] if len(data) - begin == size else None
    return None


def _digits(number: int) -> bytes:
    """Return a length in base 128, lowest digit first; every digit but the last has the high bit set."""
    digits = bytearray()
    while number >= 0x80:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*digits, number))

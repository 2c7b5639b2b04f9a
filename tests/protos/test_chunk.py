"""Chunk messages: the bytes protobuf would make, and everything else left to protobuf."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.protos.chunk import GET_TAG, PUT_TAG, ChunkMessage, read_get_response, read_put_request, write_message
from fedcore.protos.v1 import blob_pb2 as pb

SIZES = (0, 1, 127, 128, 16383, 16384, 1 << 20)


@pytest.mark.parametrize("size", SIZES)
def test_bytes_are_those_of_protobuf(size):
    chunk = bytes(range(256)) * (size // 256 + 1)
    chunk = chunk[:size]
    made = ChunkMessage(PUT_TAG, memoryview(chunk))
    assert pb.PutBlobRequest.FromString(write_message(made)).chunk == chunk
    assert made.ByteSize() == len(write_message(made))
    if size:  # protobuf leaves an empty field out
        assert write_message(made) == pb.PutBlobRequest(chunk=chunk).SerializeToString()
        assert write_message(ChunkMessage(GET_TAG, chunk)) == pb.GetBlobResponse(chunk=chunk).SerializeToString()


@given(st.binary(min_size=1, max_size=300))
def test_what_protobuf_writes_is_read_as_a_view(chunk):
    for read, message in (
        (read_put_request, pb.PutBlobRequest(chunk=chunk)),
        (read_get_response, pb.GetBlobResponse(chunk=chunk)),
    ):
        found = read(message.SerializeToString())
        assert isinstance(found, ChunkMessage) and found.chunk == chunk and isinstance(found.chunk, memoryview)


def test_a_header_and_an_empty_message_are_protobuf():
    header = pb.PutBlobRequest(header=pb.PutBlobHeader(id="sha256:00", size=3))
    assert read_put_request(header.SerializeToString()) == header
    assert read_put_request(b"") == pb.PutBlobRequest() and read_get_response(b"") == pb.GetBlobResponse()


@given(st.binary(max_size=64))
def test_any_bytes_are_read_as_protobuf_reads_them(data):
    for read, kind in ((read_put_request, pb.PutBlobRequest), (read_get_response, pb.GetBlobResponse)):
        try:
            expected = kind.FromString(data).chunk
        except Exception as error:
            with pytest.raises(type(error)):
                read(data)
        else:
            assert read(data).chunk == expected


def test_a_field_sent_twice_or_with_others_is_left_to_protobuf():
    twice = pb.PutBlobRequest(chunk=b"old").SerializeToString() + pb.PutBlobRequest(chunk=b"new").SerializeToString()
    assert read_put_request(twice).chunk == b"new"
    both = pb.PutBlobRequest(chunk=b"x", header=pb.PutBlobHeader(size=1))
    assert read_put_request(both.SerializeToString()) == both

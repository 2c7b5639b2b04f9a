from hypothesis import given, settings

from fedcore.protos.convert import blob
from fedcore.protos.v1 import blob_pb2 as pb
from fedcore.protos.values import BlobRef, UploadHeader
from fedcore.protos.wire import CHUNK_BYTES, INLINE_BYTES, MAX_MESSAGE_BYTES
from tests.protos.wire_values import HEADERS, REFS


@given(REFS)
@settings(max_examples=40)
def test_a_reference_arrives_whole(ref: BlobRef) -> None:
    assert blob.ref_from_pb(pb.BlobRef.FromString(blob.ref_to_pb(ref).SerializeToString())) == ref


@given(HEADERS)
@settings(max_examples=40)
def test_an_upload_s_header_arrives_whole(header: UploadHeader) -> None:
    message = pb.PutBlobRequest.FromString(blob.put_header(header).SerializeToString())
    assert blob.put_header_from_pb(message) == header


def test_a_chunk_has_no_header() -> None:
    message = blob.put_chunk(b"abc")
    assert message.chunk == b"abc" and blob.put_header_from_pb(message) is None


def test_questions_and_answers_carry_their_figures() -> None:
    assert (blob.get_request("sha256:0", 7).id, blob.get_request("sha256:0", 7).offset) == ("sha256:0", 7)
    assert blob.get_response(b"x").chunk == b"x"
    assert blob.stat_request("sha256:0").id == "sha256:0"
    stat = blob.stat_response(complete=True, received=9)
    assert stat.complete and stat.received == 9
    assert blob.put_response(9).received == 9


def test_chunks_fit_into_a_message() -> None:
    assert blob.put_chunk(bytes(CHUNK_BYTES)).ByteSize() < MAX_MESSAGE_BYTES
    inline = BlobRef(id="sha256:" + "0" * 64, size=INLINE_BYTES, name="0-4", inline=bytes(INLINE_BYTES))
    assert blob.ref_to_pb(inline).ByteSize() < MAX_MESSAGE_BYTES // 16

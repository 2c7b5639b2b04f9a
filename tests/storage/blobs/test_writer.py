"""Writers of blobs: limits, hashes, resumes, two writers at once."""

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.errors import BlobCorrupt, ProtocolError
from fedcore.storage.blobs.store import BlobStore
from tests.storage.blobs.blob_files import LIMIT, files, name


def test_writer_publishes_only_at_commit(store: BlobStore) -> None:
    with store.writer(name(b"abcdef"), LIMIT) as writer:
        writer.write(b"abc")
        writer.write(b"def")
        assert not store.has(name(b"abcdef"))
        assert writer.commit(durable=True) == name(b"abcdef")
        with pytest.raises(ProtocolError, match="closed"):
            writer.write(b"more")
    assert store.read_bytes(name(b"abcdef")) == b"abcdef"
    assert store.partial_size(name(b"abcdef")) == 0


def test_empty_blob(store: BlobStore) -> None:
    with store.writer(name(b""), 0) as writer:
        writer.commit()
    assert store.has(name(b"")) and list(store.read_chunks(name(b""))) == []


def test_other_bytes_are_corrupt_and_leave_nothing(store: BlobStore, tmp_path: Path) -> None:
    with store.writer(name(b"right"), LIMIT) as writer:
        writer.write(b"wrong")
        with pytest.raises(BlobCorrupt, match="send the blob again") as caught:
            writer.commit()
    assert name(b"right") in str(caught.value) and name(b"wrong") in str(caught.value)
    assert files(tmp_path) == []


def test_more_than_the_limit_is_refused_and_leaves_nothing(store: BlobStore, tmp_path: Path) -> None:
    with store.writer(name(b"12345"), 4) as writer:
        writer.write(b"1234")
        with pytest.raises(ProtocolError, match="at most 4 bytes, got 5"):
            writer.write(b"5")
    assert files(tmp_path) == []


@pytest.mark.parametrize(("offset", "rest"), [(None, b"def"), (3, b"def"), (1, b"bcdef"), (0, b"abcdef")])
def test_broken_upload_goes_on_from_an_agreed_byte(store: BlobStore, offset: int | None, rest: bytes) -> None:
    blob = name(b"abcdef")
    with store.writer(blob, LIMIT) as writer:
        writer.write(b"abc")
    assert store.partial_size(blob) == 3
    with store.writer(blob, LIMIT, offset=offset) as writer:
        assert writer.offset == 6 - len(rest)
        writer.write(rest)
        writer.commit()
    assert store.read_bytes(blob) == b"abcdef"


@pytest.mark.parametrize("offset", [-1, 4])
def test_offset_that_leaves_a_gap_is_refused_and_the_partial_stays(store: BlobStore, offset: int) -> None:
    blob = name(b"abcdef")
    with store.writer(blob, LIMIT) as writer:
        writer.write(b"abc")
    with pytest.raises(ProtocolError, match=f"continues at byte {offset}, 3 are here"):
        store.writer(blob, LIMIT, offset=offset)
    assert store.partial_size(blob) == 3


def test_second_writer_works_on_its_own_copy(store: BlobStore, tmp_path: Path) -> None:
    """A device reconnects while the coordinator still holds the old upload open."""
    blob = name(b"abcdef")
    old = store.writer(blob, LIMIT)
    old.write(b"abc")
    old._opened().flush()
    new = store.writer(blob, LIMIT, offset=3)
    assert (old.offset, new.offset) == (3, 3)
    new.write(b"def")
    old.write(b"XYZ")
    assert new.commit() == blob
    with pytest.raises(BlobCorrupt):
        old.commit()
    assert store.read_bytes(blob) == b"abcdef"
    assert files(tmp_path) == [store.path(blob)]


def test_second_writer_that_breaks_leaves_the_first_alone(store: BlobStore) -> None:
    blob = name(b"abcdef")
    with store.writer(blob, LIMIT) as first:
        first.write(b"abc")
        with store.writer(blob, LIMIT) as second:
            assert second.offset == 0
            second.write(b"zz")
        first.write(b"def")
        first.commit()
    assert store.read_bytes(blob) == b"abcdef"


def test_many_threads_may_write_the_same_blob(store: BlobStore, tmp_path: Path) -> None:
    data = os.urandom(200_000)
    start = threading.Barrier(8)
    failures: list[BaseException] = []

    def upload() -> None:
        try:
            start.wait()
            for _ in range(5):
                with store.writer(name(data), LIMIT, offset=0) as writer:
                    for begin in range(0, len(data), 30_000):
                        writer.write(data[begin : begin + 30_000])
                    writer.commit()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=upload) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.read_bytes(name(data)) == data
    assert files(tmp_path) == [store.path(name(data))]


@settings(max_examples=40, deadline=None)
@given(data=st.binary(max_size=400), cuts=st.lists(st.integers(0, 400), max_size=6), chunk=st.integers(1, 70))
def test_any_breaks_and_any_chunks_give_the_same_blob(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cuts: list[int], chunk: int
) -> None:
    store = BlobStore(tmp_path_factory.mktemp("blobs"))
    for cut in sorted(min(cut, len(data)) for cut in cuts):
        with store.writer(name(data), len(data)) as writer:
            writer.write(data[writer.offset : cut])
    with store.writer(name(data), len(data)) as writer:
        for begin in range(writer.offset, len(data), chunk):
            writer.write(data[begin : begin + chunk])
        writer.commit()
    offset = len(data) // 3
    assert b"".join(store.read_chunks(name(data), offset=offset, chunk_bytes=chunk)) == data[offset:]

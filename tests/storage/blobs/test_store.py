"""The content-addressed store: names, resumes, two writers at once."""

import hashlib
import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.errors import BlobCorrupt, ProtocolError
from fedcore.storage.blobs.store import BlobStore

LIMIT = 1 << 20


def name(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@pytest.mark.parametrize("durable", [False, True])
def test_put_bytes_lies_under_its_hash_for_the_owner_only(store: BlobStore, tmp_path: Path, durable: bool) -> None:
    blob = store.put_bytes(b"hello", durable=durable)
    assert blob == name(b"hello")
    digits = blob.removeprefix("sha256:")
    path = tmp_path / "blobs" / "sha256" / digits[:2] / digits[2:]
    assert store.path(blob) == path and path.read_bytes() == b"hello"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "blobs").rglob("*") if each.is_dir()} == {0o700}
    assert (store.has(blob), store.size(blob)) == (True, 5)
    assert files(tmp_path) == [path]


def test_equal_bytes_are_stored_once(store: BlobStore) -> None:
    blob = store.put_bytes(b"same")
    assert store.put_bytes(b"same") == blob and store.names() == {blob}


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "sha256:",
        "sha256:../../etc/passwd",
        "sha256:" + "g" * 64,
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 65,
        "md5:" + "a" * 64,
        "sha256:" + "a" * 64 + "\n",
        "x/../sha256:" + "a" * 64,
    ],
)
def test_no_other_name_reaches_the_disk(store: BlobStore, tmp_path: Path, bad: str) -> None:
    for call in (store.has, store.path, store.size, store.partial_size, store.delete, store.read_bytes):
        with pytest.raises(ProtocolError, match="64 lower-case hex"):
            call(bad)
    with pytest.raises(ProtocolError):
        store.writer(bad, LIMIT)
    with pytest.raises(ProtocolError):
        store.alias(bad, tmp_path)
    assert files(tmp_path) == []


def test_a_missing_blob_is_named(store: BlobStore) -> None:
    absent = name(b"absent")
    assert not store.has(absent) and store.partial_size(absent) == 0
    for call in (store.path, store.size, store.read_bytes, store.read_chunks):
        with pytest.raises(ProtocolError, match=absent):
            call(absent)
    store.delete(absent)


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


def test_alias_serves_a_file_where_it_lies(store: BlobStore, tmp_path: Path) -> None:
    shard = tmp_path / "shard"
    shard.write_bytes(b"base model")
    store.alias(name(b"base model"), shard)
    assert store.path(name(b"base model")) == shard and store.names() == set()
    assert b"".join(store.read_chunks(name(b"base model"), chunk_bytes=3)) == b"base model"
    store.delete(name(b"base model"))
    assert shard.exists() and not store.has(name(b"base model"))


def test_spoiled_file_is_noticed(store: BlobStore) -> None:
    blob = store.put_bytes(b"good")
    store.path(blob).write_bytes(b"evil")
    with pytest.raises(BlobCorrupt, match="fetch it again"):
        store.read_bytes(blob)


def test_delete_forgets_blob_and_partial(store: BlobStore, tmp_path: Path) -> None:
    blob = store.put_bytes(b"abc")
    store.writer(blob, LIMIT).close()
    store.delete(blob)
    assert not store.has(blob) and files(tmp_path) == []


def test_old_partials_go_but_not_the_one_being_written(store: BlobStore, tmp_path: Path) -> None:
    with store.writer(name(b"old"), LIMIT) as writer:
        writer.write(b"o")
    (old,) = files(tmp_path)
    os.utime(old, (1000.0, 1000.0))
    with store.writer(name(b"young"), LIMIT) as writer:
        writer.write(b"y")
    os.utime(tmp_path / "blobs" / "partial" / name(b"young")[7:], (1090.0, 1090.0))
    with store.writer(name(b"open"), LIMIT):
        os.utime(tmp_path / "blobs" / "partial" / name(b"open")[7:], (0.0, 0.0))
        assert store.delete_partials(30.0, now_s=1100.0) == 1
        assert not old.exists() and len(files(tmp_path)) == 2


@pytest.mark.parametrize("offset", [-1, 4])
def test_read_from_beyond_the_end_is_refused(store: BlobStore, offset: int) -> None:
    blob = store.put_bytes(b"abc")
    with pytest.raises(ProtocolError, match="has 3 bytes"):
        store.read_chunks(blob, offset=offset)


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


def test_chunks_are_one_blob_and_a_failing_source_leaves_nothing(store: BlobStore, tmp_path: Path) -> None:
    assert store.put_chunks([b"ab", memoryview(b"cd"), b""]) == name(b"abcd") == store.put_bytes(b"abcd")

    def broken():
        yield b"half"
        raise OSError("source is gone")

    with pytest.raises(OSError, match="source is gone"):
        store.put_chunks(broken())
    assert [path.name for path in files(tmp_path)] == [name(b"abcd").removeprefix("sha256:")[2:]]


def test_bytes_longer_than_a_chunk_are_stored_whole(store: BlobStore) -> None:
    data = os.urandom((2 << 20) + 5)
    blob = store.put_bytes(data)
    assert blob == name(data) and store.read_bytes(blob) == data


@pytest.mark.parametrize("data", [b"", b"x", b"weights" * 300_000])
def test_a_view_is_the_file_and_outlives_it(store: BlobStore, data: bytes) -> None:
    blob = store.put_bytes(data)
    view = store.view(blob)
    store.delete(blob)
    assert view == data and view.readonly
    with pytest.raises(ProtocolError, match="is not here"):
        store.view(blob)


def test_names_are_those_of_whole_and_partial_blobs(store: BlobStore, tmp_path: Path) -> None:
    assert store.names() == set()
    whole = store.put_bytes(b"whole")
    with store.writer(name(b"partial"), LIMIT) as writer, store.writer(name(b"partial"), LIMIT) as private:
        for each in (writer, private):
            each.write(b"par")
        assert store.names() == {whole, name(b"partial")}
    (tmp_path / "aliased").write_bytes(b"aliased")
    store.alias(name(b"aliased"), tmp_path / "aliased")
    assert store.names() == {whole, name(b"partial")}, "the other writer's copy is gone, aliases are not ours"

"""The content-addressed store: names, files, aliases, views, partials."""

import os
import stat
from pathlib import Path

import pytest

from fedcore.core.errors import BlobCorrupt, ProtocolError
from fedcore.storage.blobs.store import BlobStore
from tests.storage.blobs.blob_files import LIMIT, files, name


@pytest.mark.parametrize("durable", [False, True])
def test_put_bytes_lies_under_its_hash_for_the_owner_only(store: BlobStore, tmp_path: Path, durable: bool) -> None:
    blob = store.put_bytes(b"hello", durable=durable)
    assert blob == name(b"hello")
    digits = blob.removeprefix("sha256:")
    path = tmp_path / "blobs" / "sha256" / digits[:2] / digits[2:]
    assert store.path(blob) == path and path.read_bytes() == b"hello"
    (tmp_path / "usual").touch()
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode, "the folders are closed to others"
    assert {stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "blobs").rglob("*") if each.is_dir()} == {0o700}
    assert (store.has(blob), store.size(blob)) == (True, 5)
    assert files(tmp_path / "blobs") == [path]


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

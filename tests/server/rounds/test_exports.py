"""An uploaded export becomes a folder as a whole, or the earlier one stays."""

from pathlib import Path

import pytest

from fedcore.core.errors import ProtocolError
from fedcore.protos.values import BlobRef
from fedcore.server.rounds.exports import place_export
from fedcore.storage.blobs.store import BlobStore


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def put(blobs: BlobStore, name: str, data: bytes) -> BlobRef:
    return BlobRef(id=blobs.put_bytes(data), size=len(data), name=name)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_land_under_their_names_also_in_folders(tmp_path: Path, blobs: BlobStore) -> None:
    place_export(tmp_path / "agx", [put(blobs, "config.json", b"{}"), put(blobs, "code/model.py", b"x")], blobs)
    assert tree(tmp_path / "agx") == {"config.json": b"{}", "code/model.py": b"x"}


def test_a_later_export_replaces_the_earlier_one_whole(tmp_path: Path, blobs: BlobStore) -> None:
    place_export(tmp_path / "agx", [put(blobs, "old", b"1"), put(blobs, "both", b"1")], blobs)
    place_export(tmp_path / "agx", [put(blobs, "both", b"2")], blobs)
    assert tree(tmp_path / "agx") == {"both": b"2"}
    assert not list(tmp_path.glob(".agx*"))


def test_two_exports_may_share_a_file(tmp_path: Path, blobs: BlobStore) -> None:
    for name in ("agx", "nx"):
        place_export(tmp_path / name, [put(blobs, "tokenizer.json", b"{}")], blobs)
    assert tree(tmp_path / "agx") == tree(tmp_path / "nx")


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "..", "", "."])
def test_a_name_that_leaves_the_folder_is_refused_and_the_earlier_export_stays(
    name: str, tmp_path: Path, blobs: BlobStore
) -> None:
    (tmp_path / "exports").mkdir()
    place_export(tmp_path / "exports" / "agx", [put(blobs, "good", b"1")], blobs)
    with pytest.raises(ProtocolError, match="expected a name inside the export folder"):
        place_export(tmp_path / "exports" / "agx", [put(blobs, "fine", b"2"), put(blobs, name, b"evil")], blobs)
    assert tree(tmp_path / "exports") == {"agx/good": b"1"}
    assert not (tmp_path / "evil").exists()


def test_an_export_without_files_or_with_a_missing_one_is_refused(tmp_path: Path, blobs: BlobStore) -> None:
    place_export(tmp_path / "agx", [put(blobs, "good", b"1")], blobs)
    with pytest.raises(ProtocolError, match="the export of class agx has no file"):
        place_export(tmp_path / "agx", [], blobs)
    with pytest.raises(ProtocolError, match="is not here"):
        place_export(tmp_path / "agx", [BlobRef(id="sha256:" + "0" * 64, size=1, name="x")], blobs)
    assert tree(tmp_path / "agx") == {"good": b"1"}

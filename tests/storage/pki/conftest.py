"""An authority that has issued a coordinator's and a device's certificate."""

import shutil
from pathlib import Path

import pytest

from fedcore.storage.pki.authority import create_authority, issue


@pytest.fixture(scope="session")
def issued_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls") / "certs"
    create_authority(folder)
    issue(folder, "main", kind="coordinator", hosts=("fed.example.org", "192.0.2.7"))
    issue(folder, "agx-0", kind="device")
    return folder


@pytest.fixture
def folder(issued_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(issued_once, tmp_path / "certs"))

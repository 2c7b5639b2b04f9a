"""A blob store in a temporary folder."""

from pathlib import Path

import pytest

from fedcore.storage.blobs.store import BlobStore


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")

"""Tensors of a mapped file stay readable, and do not stay resident."""

from pathlib import Path

import numpy as np

from fedcore.core.codec.chain import decode, encode
from fedcore.server.aggregate.mapped_tensors import MappedTensors
from fedcore.storage.blobs.store import BlobStore

NAMES = [f"t{number}" for number in range(8)]


def resident_file_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssFile")) / 1e3


def test_at_most_one_tensor_is_resident(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    data = store.view(store.put_bytes(encode({name: np.ones(1_000_000, np.float32) for name in NAMES}, "identity")))
    tensors = MappedTensors(decode(data), data)
    before = resident_file_mb()
    total = sum(float(tensors[name].sum()) for name in tensors)
    assert total == 8e6 and len(tensors) == 8
    assert resident_file_mb() - before < 6
    tensors.release_pages()
    assert resident_file_mb() - before < 2


def test_arrays_handed_out_earlier_keep_their_values(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    data = store.view(
        store.put_bytes(encode({name: np.full(5, index, np.float32) for index, name in enumerate(NAMES)}, "identity"))
    )
    tensors = MappedTensors(decode(data), data)
    held = {name: tensors[name] for name in NAMES}
    assert [held[name].tolist() for name in NAMES] == [[index] * 5 for index in range(8)]


def test_bytes_inside_a_message_are_left_alone() -> None:
    data = memoryview(encode({"a": np.ones(3, np.float32)}, "identity"))
    assert MappedTensors(decode(data), data)["a"].tolist() == [1, 1, 1]

"""Rank blocks and head, joined to the adapter a device trains."""

from pathlib import Path

import numpy as np
import pytest

from fedcore.adapter import initial_adapter
from fedcore.codec.chain import encode
from fedcore.errors import BlobCorrupt, ProtocolError
from protos.values import BlobRef
from server.adapter_blobs import blocks_below, store_adapter
from storage.blobs import BlobStore
from tests.client.conftest import GEOMETRY, FakeLink, inside
from tests.tiny_run import spec_of
from transport.handout import read_handout
from transport.payload import fetch_all, payload


@pytest.mark.parametrize("rank", [1, 4, 5, 8, 11])
def test_a_handout_is_a_prefix_of_the_global_adapter(rank: int, tmp_path: Path) -> None:
    spec = spec_of(GEOMETRY, 11)
    tensors = initial_adapter(spec, np.random.default_rng(1))
    blobs = BlobStore(tmp_path / "blobs")
    adapter = store_adapter(blobs, spec, tensors, 3, ranks=(4, 8))
    handout = read_handout(blobs, blocks_below(adapter, rank), adapter.head)
    assert handout.keys() == tensors.keys()
    held = handout["layers.0.q.A"].shape[0]
    assert rank <= held <= 11
    for name, value in tensors.items():
        part = value[:held] if name.endswith(".A") else value[:, :held] if name.endswith(".B") else value
        np.testing.assert_array_equal(handout[name], part)


def test_blocks_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    ones = np.ones((1, 2), dtype=np.float32)
    blocks = [inside(encode({name: ones}, "identity")) for name in ("x.A", "y.A")]
    with pytest.raises(ProtocolError, match="do not carry the same tensors"):
        read_handout(BlobStore(tmp_path), blocks, inside(encode({}, "identity")))
    with pytest.raises(ProtocolError, match="do not carry the same tensors"):
        read_handout(BlobStore(tmp_path), [], inside(encode({}, "identity")))


def test_a_payload_is_verified_wherever_it_came_from(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
    assert payload(inside(b"small"), blobs) == b"small"
    stored = BlobRef(id=blobs.put_bytes(b"stored"), size=6)
    assert payload(stored, blobs) == b"stored"
    with pytest.raises(BlobCorrupt, match="the bytes inside the message are"):
        payload(BlobRef(id=stored.id, size=6, inline=b"others"), blobs)
    with pytest.raises(ProtocolError, match="is not here"):
        payload(BlobRef(id="sha256:" + "0" * 64, size=6), blobs)


async def test_only_what_is_not_here_is_brought(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
    blobs.put_bytes(b"here")
    far = inside(b"far away", inline=False)
    link = FakeLink(held={far.id: b"far away"})
    refs = [inside(b"here", inline=False), far, inside(b"inside")]
    assert await fetch_all(link, blobs, refs) == 8 + 6  # type: ignore[arg-type]
    assert await fetch_all(link, blobs, refs[:2]) == 0  # type: ignore[arg-type]

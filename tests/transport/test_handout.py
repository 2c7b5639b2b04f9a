"""Rank blocks and head, joined to the adapter a device trains."""

from pathlib import Path

import numpy as np
import pytest

from fedcore.adapter import initial_adapter, restrict
from fedcore.codec.chain import encode
from fedcore.errors import BlobCorrupt, ProtocolError
from fedcore.keep_set import KeepSet
from protos.values import BlobRef
from server.adapter_blobs import blocks_below, store_adapter, store_rings
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


@pytest.mark.parametrize("downlink", ["full", "bf16"])
def test_a_handout_in_rings_is_what_a_device_keeps(downlink: str, tmp_path: Path) -> None:
    spec = spec_of(GEOMETRY, 8)
    tensors = initial_adapter(spec, np.random.default_rng(1))
    blobs = BlobStore(tmp_path / "blobs")
    whole = store_adapter(blobs, spec, tensors, 3, ranks=(4, 8), downlink=downlink)
    full = KeepSet.full(GEOMETRY)
    half = KeepSet(heads=tuple(row[::2] for row in full.heads), channels=tuple(row[1::2] for row in full.channels))
    parted = store_rings(blobs, spec, tensors, whole, (half, full), ranks=(4, 8), downlink=downlink)
    rings = [inside(each.to_bits(GEOMETRY)) for each in (half, full)]
    expected = read_handout(blobs, whole.rank_blocks, whole.head)
    for count, keep_set in ((1, half), (2, full)):
        for rank in (4, 8):
            blocks = blocks_below(parted, rank, rings=count)
            handout = read_handout(blobs, blocks, parted.head, rings[:count])
            kept = restrict(spec, expected, rank=rank, keep_set=keep_set)
            assert handout.keys() == kept.keys()
            for name, value in kept.items():
                np.testing.assert_array_equal(handout[name], value)
    for blocks in (blocks_below(parted, 8, rings=2), whole.rank_blocks):
        with pytest.raises(ProtocolError, match="lies in none of 1 rings"):
            read_handout(blobs, blocks, parted.head, rings[:1])
    with pytest.raises(ProtocolError, match="rings are not what their keep-sets say"):
        read_handout(blobs, blocks_below(parted, 8, rings=2), parted.head, [rings[0], rings[0]])


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

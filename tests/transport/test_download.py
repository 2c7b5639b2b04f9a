"""Rank blocks and head, joined to the adapter a device trains."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedcore.core.codec.chain import encode
from fedcore.core.errors import BlobCorrupt, ProtocolError
from fedcore.core.model.adapter import initial_adapter, restrict
from fedcore.core.model.geometry import Geometry
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.values import BlobRef, WireAssignment
from fedcore.server.aggregate.adapter_blobs import blocks_below, store_adapter, store_rings
from fedcore.storage.blobs.store import BlobStore
from fedcore.transport.download import read_handout, read_received
from fedcore.transport.payload import fetch_all, payload
from tests.client.conftest import GEOMETRY, FakeLink, inside, make_assignment
from tests.core.model.test_keep_set import GQA, MQA
from tests.tiny_run import drawn_adapter, spec_of


def asked(
    keep_set: KeepSet, blocks: Sequence[BlobRef], head: BlobRef, rings: Sequence[BlobRef], own: BlobRef | None = None
) -> WireAssignment:
    """Return an assignment in rings; without `own` the last one is said to be what is kept."""
    if own is None and rings and KeepSet.from_bits(rings[-1].inline) != keep_set:
        own = inside(keep_set.to_bits(GEOMETRY))
    named = replace(inside(keep_set.to_bytes()), inline=b"")
    rest = make_assignment(3, rank=8)
    return replace(rest, keep_set=named, rank_blocks=tuple(blocks), head=head, rings=tuple(rings), inside=own)


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
            received = read_received(asked(keep_set, blocks, parted.head, rings[:count]), blobs)
            assert received.keep_set == received.within == keep_set
            kept = restrict(spec, expected, rank=rank, keep_set=keep_set)
            assert received.tensors.keys() == kept.keys()
            for name, value in kept.items():
                np.testing.assert_array_equal(received.tensors[name], value)
    for blocks in (blocks_below(parted, 8, rings=2), whole.rank_blocks):
        with pytest.raises(ProtocolError, match=r"in none of 1 rings"):
            read_received(asked(half, blocks, parted.head, rings[:1]), blobs)
    blocks = blocks_below(parted, 8, rings=2)
    with pytest.raises(ProtocolError, match="rings are not what their keep-sets say"):
        read_received(asked(half, blocks, parted.head, [rings[0], rings[0]]), blobs)
    less = KeepSet(heads=half.heads, channels=tuple(row[::2] for row in half.channels))
    for keep_set, wrong in ((half, rings[::-1]), (full, rings[:1]), (half, [inside(less.to_bits(GEOMETRY))])):
        with pytest.raises(ProtocolError, match="do not nest"):
            read_received(asked(keep_set, blocks, parted.head, wrong), blobs)


@pytest.mark.parametrize("geometry", [GEOMETRY, GQA, MQA], ids=["bert", "gqa", "mqa"])
def test_a_keep_set_between_two_rings_is_cut_out_of_the_larger(geometry: Geometry, tmp_path: Path) -> None:
    spec = spec_of(geometry, 4)
    tensors = drawn_adapter(spec)
    blobs, full = BlobStore(tmp_path / "blobs"), KeepSet.full(geometry)
    sparse, between = (
        KeepSet(heads=tuple(row[:1] for row in full.heads), channels=tuple(row[1::step] for row in full.channels))
        for step in (2, 1)
    )
    whole = store_adapter(blobs, spec, tensors, 3, ranks=(4,))
    parted = store_rings(blobs, spec, tensors, whole, (sparse, full), ranks=(4,), downlink="full")
    rings = [inside(each.to_bits(geometry)) for each in (sparse, full)]
    assignment = asked(between, blocks_below(parted, 4, rings=2), parted.head, rings, inside(between.to_bits(geometry)))
    received = read_received(assignment, blobs)
    assert received.keep_set == between and received.within == full
    held = restrict(spec, received.tensors, rank=3, keep_set=between, within=full)
    for name, value in restrict(spec, tensors, rank=3, keep_set=between).items():
        np.testing.assert_array_equal(held[name], value)
    with pytest.raises(ProtocolError, match="another keep-set came than was named"):
        read_received(replace(assignment, inside=rings[0]), blobs)


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

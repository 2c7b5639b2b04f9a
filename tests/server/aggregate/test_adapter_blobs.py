"""The global adapter in blobs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.codec.chain import decode
from fedcore.core.codec.delta import apply_delta
from fedcore.core.model.base_shift import shift_shapes
from fedcore.core.model.geometry import geometry_from_config
from fedcore.server.aggregate.adapter_blobs import (
    MAX_DELTA_SHARE,
    blob_ids,
    blocks_below,
    store_adapter,
    with_deltas,
    with_step,
)
from fedcore.server.aggregate.global_file import read_global, write_global
from fedcore.storage.blobs.store import BlobStore
from fedcore.transport.download import read_handout
from tests.tiny_run import MODEL, drawn_adapter, spec_of

GEOMETRY = geometry_from_config(MODEL)
RANKS = (4, 8, 16)


@settings(max_examples=15, deadline=None)
@given(rank=st.integers(1, 33), wanted=st.integers(1, 33))
def test_the_blocks_below_a_rank_hold_its_prefix_and_no_whole_block_more(
    rank: int, wanted: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    wanted = min(wanted, rank)
    spec = spec_of(GEOMETRY, rank)
    blobs = BlobStore(tmp_path_factory.mktemp("blobs"))
    tensors = drawn_adapter(spec)
    adapter = store_adapter(blobs, spec, tensors, 1, ranks=RANKS)
    blocks = blocks_below(adapter, wanted)
    parts = [decode(blobs.read_bytes(ref.id))["layers.0.q.A"] for ref in blocks]
    held = np.concatenate(parts)
    assert len(held) >= wanted and len(held) - len(parts[-1]) < wanted
    np.testing.assert_array_equal(held, tensors["layers.0.q.A"][: len(held)])


def test_rounded_blocks_are_smaller_and_the_head_is_exact(tmp_path: Path) -> None:
    spec = spec_of(GEOMETRY, 400)
    blobs, tensors = BlobStore(tmp_path), drawn_adapter(spec)
    exact, rounded = (store_adapter(blobs, spec, tensors, 1, ranks=RANKS, downlink=how) for how in ("full", "bf16"))
    sizes = [sum(ref.size for ref in each.rank_blocks) for each in (exact, rounded)]
    assert sizes[1] < 0.5 * sizes[0]
    read = read_handout(blobs, rounded.rank_blocks, rounded.head)
    for name, value in tensors.items():
        tolerance = 0.0 if name.startswith("head.") else 2.0**-8
        np.testing.assert_allclose(read[name], value, rtol=tolerance, atol=0)


def test_equal_tensors_are_equal_blobs(tmp_path: Path) -> None:
    spec = spec_of(GEOMETRY, 5)
    blobs = BlobStore(tmp_path)
    first, second = (store_adapter(blobs, spec, drawn_adapter(spec), number, ranks=RANKS) for number in (1, 2))
    assert first.rank_blocks == second.rank_blocks and first.head == second.head
    changed = drawn_adapter(spec)
    changed["layers.0.q.A"][4, 0] += 1
    third = store_adapter(blobs, spec, changed, 3, ranks=RANKS)
    assert third.rank_blocks[0] == first.rank_blocks[0], "ranks that did not change are not sent again"
    assert third.rank_blocks[1] != first.rank_blocks[1]


def test_a_large_block_is_also_on_offer_as_its_difference(tmp_path: Path) -> None:
    geometry = replace(GEOMETRY, ffn=6000)
    spec = spec_of(geometry, 8)
    blobs = BlobStore(tmp_path)
    tensors = drawn_adapter(spec)
    moved = {name: value * np.float32(1.001) if "down.A" in name else value for name, value in tensors.items()}
    moved = {
        name: value if value.ndim < 2 or value.shape[0] != 8 else np.vstack([value[:4], tensors[name][4:]])
        for name, value in moved.items()
    }
    first = store_adapter(blobs, spec, tensors, 1, ranks=RANKS)
    second = with_deltas(blobs, store_adapter(blobs, spec, moved, 2, ranks=RANKS), first)
    changed, same = second.rank_blocks
    assert changed.delta_base == first.rank_blocks[0].id and changed.delta_size < MAX_DELTA_SHARE * changed.size
    made = apply_delta(blobs.read_bytes(changed.delta_base), blobs.read_bytes(changed.delta_id))
    assert made == blobs.read_bytes(changed.id)
    assert same == first.rank_blocks[1] and not same.delta_id, "what did not change is not sent again anyway"
    assert blob_ids(second) == {changed.id, changed.delta_id, same.id, second.head.id}


def test_no_delta_is_offered_that_would_not_help(tmp_path: Path) -> None:
    small, large = spec_of(GEOMETRY, 4), spec_of(replace(GEOMETRY, ffn=6000), 4)
    blobs = BlobStore(tmp_path)
    rng = np.random.default_rng(5)
    noise = {name: rng.integers(0, 2**32, shape, np.uint32).view(np.float32) for name, shape in large.shapes().items()}
    pairs = [(small, drawn_adapter(small, 0), drawn_adapter(small, 1)), (large, drawn_adapter(large), noise)]
    for spec, before, after in pairs:  # inside messages; as different as can be
        first = store_adapter(blobs, spec, before, 1, ranks=RANKS)
        second = store_adapter(blobs, spec, after, 2, ranks=RANKS)
        assert with_deltas(blobs, second, first) == second
    values = drawn_adapter(large)
    first, second = (
        store_adapter(
            blobs, large, {key: value + np.float32(n) / 1000 for key, value in values.items()}, n, ranks=RANKS
        )
        for n in (1, 2)
    )
    assert with_deltas(blobs, second, first) != second
    blobs.delete(first.rank_blocks[0].id)
    assert with_deltas(blobs, second, first) == second, "a base that is gone"


def test_the_durable_file_gives_the_same_bits_back(tmp_path: Path) -> None:
    tensors = drawn_adapter(spec_of(GEOMETRY, 3))
    digest = write_global(tmp_path / "globals", tensors, 7)
    back = read_global(tmp_path / "globals", 7, digest)
    assert back.keys() == tensors.keys()
    for name, value in tensors.items():
        np.testing.assert_array_equal(back[name], value)
        assert back[name].flags.writeable


def test_steps_go_once_the_whole_is_smaller_than_they_are(tmp_path: Path) -> None:
    blobs, spec = BlobStore(tmp_path), spec_of(GEOMETRY, 2)
    shift = {name: np.ones(shape, np.float32) for name, shape in shift_shapes(spec).items()}
    before, names = store_adapter(blobs, spec, drawn_adapter(spec), 0, ranks=RANKS), []
    for number in (1, 2, 4):
        step = {name.replace(".W", ".step"): value[:, : value.shape[1] // 2] for name, value in shift.items()}
        after = store_adapter(blobs, spec, drawn_adapter(spec) | shift, number, ranks=RANKS)
        before = with_step(blobs, after, before, step)
        assert before.base_shift is not None
        names.append([ref.name for ref in before.base_shift.steps])
    assert names == [["0-1"], ["1-2"], ["2-4"]]
    assert before.base_shift is not None and {ref.id for ref in before.base_shift.refs} <= blob_ids(before)

"""The global adapter as blobs that devices fetch: rank blocks (in rings on request), the head and the base shift."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedcore.core.codec.chain import encode, encode_chunks
from fedcore.core.codec.delta import make_delta
from fedcore.core.model.adapter import AdapterSpec, Tensors, rank_blocks
from fedcore.core.model.base_shift import shift_of
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.model.rings import ring
from fedcore.protos.block_name import BlockName
from fedcore.protos.values import BaseShift, BlobRef, GlobalAdapter
from fedcore.protos.wire import INLINE_BYTES
from fedcore.storage.blobs.store import BlobStore
from fedcore.transport.payload import put_blob

ROUNDING_CODEC = "bf16+zstd"  # codec of rank blocks under training.downlink = "bf16"
MAX_INLINE_BYTES = 1 << 20  # of rank blocks inside one message; a message may hold four times as many
MAX_DELTA_SHARE = 0.9  # of a block's size; a longer delta would save too little


def store_adapter(
    blobs: BlobStore,
    spec: AdapterSpec,
    tensors: Tensors,
    round_index: int,
    *,
    ranks: Sequence[int],
    downlink: str = "full",
) -> GlobalAdapter:
    """Write the adapter as rank-block blobs, a head blob and the whole base shift; equal tensors give equal blobs.

    Blocks end at the `ranks` that devices train at; `downlink` is training.downlink.
    """
    blocks = _limit_inline(_rank_blocks(blobs, spec, tensors, _factors(spec), ranks=ranks, downlink=downlink))
    head = _put(blobs, "head", {name: tensors[name] for name, _ in spec.head})
    shift = shift_of(tensors)
    whole = BaseShift(whole=_put_apart(blobs, str(round_index), shift)) if shift else None
    return GlobalAdapter(round=round_index, rank_blocks=blocks, head=head, base_shift=whole)


def with_step(blobs: BlobStore, adapter: GlobalAdapter, before: GlobalAdapter, step: Tensors) -> GlobalAdapter:
    """Return `adapter` with a base shift that devices can also fetch in steps; the last is `step`, from `before`.

    Older steps stay as long as all steps together are smaller than the whole shift.
    """
    if adapter.base_shift is None or not step:
        return adapter
    older = () if before.base_shift is None else before.base_shift.steps
    steps = [*older, _put_apart(blobs, f"{before.round}-{adapter.round}", step)]
    while steps and sum(ref.size for ref in steps) >= adapter.base_shift.whole.size:
        steps.pop(0)
    return replace(adapter, base_shift=replace(adapter.base_shift, steps=tuple(steps)))


def store_rings(
    blobs: BlobStore,
    spec: AdapterSpec,
    tensors: Tensors,
    adapter: GlobalAdapter,
    keep_sets: Sequence[KeepSet],
    *,
    ranks: Sequence[int],
    downlink: str,
) -> GlobalAdapter:
    """Return `adapter` (of `tensors`) with its rank blocks split into the rings of nested `keep_sets`, as blobs.

    A ring block with the same content as in an earlier round is the same blob.
    """
    blocks: list[BlobRef] = []
    for index, outer in enumerate(keep_sets):
        in_ring = ring(spec, tensors, keep_sets[index - 1] if index else None, outer)
        blocks += _rank_blocks(blobs, spec, in_ring, in_ring, ranks=ranks, downlink=downlink, index=index)
    return replace(adapter, rank_blocks=_limit_inline(blocks))


def blocks_below(adapter: GlobalAdapter, rank: int, *, rings: int = 0) -> tuple[BlobRef, ...]:
    """Return the rank-block blobs that a device of `rank` needs; of an adapter in rings, those of the first `rings`."""
    named = [(ref, BlockName.parse(ref.name)) for ref in adapter.rank_blocks]
    return tuple(ref for ref, name in named if name.low < rank and (name.ring is None or name.ring < rings))


def with_deltas(blobs: BlobStore, adapter: GlobalAdapter, before: GlobalAdapter) -> GlobalAdapter:
    """Return `adapter` with rank blocks that devices can also fetch as deltas from `before`, where that is shorter.

    Blocks inside messages have no delta: devices never fetch them.
    """
    older = {ref.name: ref for ref in before.rank_blocks}
    blocks = tuple(
        _with_delta(blobs, ref, older[ref.name]) if ref.name in older else ref for ref in adapter.rank_blocks
    )
    return replace(adapter, rank_blocks=blocks)


def blob_ids(adapter: GlobalAdapter) -> set[str]:
    """Return the ids of all blobs through which devices can fetch this adapter."""
    refs = (*adapter.rank_blocks, adapter.head, *(adapter.base_shift.refs if adapter.base_shift else ()))
    return {ref.id for ref in refs} | {ref.delta_id for ref in refs if ref.delta_id}


def _with_delta(blobs: BlobStore, ref: BlobRef, older: BlobRef) -> BlobRef:
    if ref.inline or ref.id == older.id or ref.size != older.size or not blobs.has(older.id):
        return ref
    delta = make_delta(blobs.read_bytes(older.id), blobs.read_bytes(ref.id))
    if len(delta) > MAX_DELTA_SHARE * ref.size:
        return ref
    return replace(ref, delta_id=blobs.put_bytes(delta), delta_base=older.id, delta_size=len(delta))


def _factors(spec: AdapterSpec) -> list[str]:
    return [f"layers.{layer}.{module}.{factor}" for layer, module in spec.modules() for factor in ("A", "B")]


def _rank_blocks(
    blobs: BlobStore,
    spec: AdapterSpec,
    tensors: Tensors,
    names: Collection[str],
    *,
    ranks: Sequence[int],
    downlink: str,
    index: int | None = None,  # of the ring that `tensors` belong to
) -> Iterator[BlobRef]:
    codec = ROUNDING_CODEC if downlink == "bf16" else "identity"
    for low, high in rank_blocks(spec.rank, ranks):
        block = {name: _block(tensors[name], name, low, high) for name in names}
        yield _put(blobs, str(BlockName(low=low, high=high, ring=index)), block, codec)


def _limit_inline(blocks: Iterable[BlobRef]) -> tuple[BlobRef, ...]:
    """Return `blocks` with inline bytes in the first ones only, so that an assignment that names all stays small."""
    limited, inline_bytes = [], 0
    for ref in blocks:
        inline_bytes += len(ref.inline)
        limited.append(ref if inline_bytes <= MAX_INLINE_BYTES else replace(ref, inline=b""))
    return tuple(limited)


def _block(value: NDArray[np.float32], name: str, low: int, high: int) -> NDArray[np.float32]:
    return value[low:high] if name.endswith(".A") else value[:, low:high]


def _put_apart(blobs: BlobStore, name: str, tensors: Tensors) -> BlobRef:
    """Store tensors as a blob that never travels inside a message, because most devices lack only some of them."""
    blob_id = blobs.put_chunks(encode_chunks(tensors, "identity"))
    return BlobRef(id=blob_id, size=blobs.size(blob_id), name=name)


def _put(blobs: BlobStore, name: str, tensors: Tensors, codec: str = "identity") -> BlobRef:
    if sum(value.nbytes for value in tensors.values()) < INLINE_BYTES:
        return put_blob(blobs, encode(tensors, codec), name)
    blob_id = blobs.put_chunks(encode_chunks(tensors, codec))  # in chunks: this makes no second copy of a large adapter
    return BlobRef(id=blob_id, size=blobs.size(blob_id), name=name)

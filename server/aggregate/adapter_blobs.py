"""The global adapter as blobs that devices fetch: rank blocks, in rings where asked, the head and the base shift."""

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

ROUNDED = "bf16+zstd"  # codec of rank blocks under training.downlink = "bf16"
INLINE_BLOCKS = 1 << 20  # bytes of rank blocks inside one message, which may have four times as many
MOST_OF_A_BLOB = 0.9  # of a longer delta too little would be saved


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

    Blocks end at `ranks`, those that devices train at; `downlink` is training.downlink.
    """
    blocks = _light(_rank_blocks(blobs, spec, tensors, _factors(spec), ranks=ranks, downlink=downlink))
    head = _put(blobs, "head", {name: tensors[name] for name, _ in spec.head})
    shift = shift_of(tensors)
    whole = BaseShift(whole=_put_apart(blobs, str(round_index), shift)) if shift else None
    return GlobalAdapter(round=round_index, rank_blocks=blocks, head=head, base_shift=whole)


def with_step(blobs: BlobStore, adapter: GlobalAdapter, before: GlobalAdapter, step: Tensors) -> GlobalAdapter:
    """Return `adapter` whose base shift is also on offer in steps, the last of them `step` from that of `before`.

    Older steps stay as long as all together are smaller than the whole.
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
    """Return `adapter` (of `tensors`) with its rank blocks parted in the rings of nested `keep_sets`, written as blobs.

    What is equal from round to round is the same blob.
    """
    blocks: list[BlobRef] = []
    for index, outer in enumerate(keep_sets):
        part = ring(spec, tensors, keep_sets[index - 1] if index else None, outer)
        blocks += _rank_blocks(blobs, spec, part, part, ranks=ranks, downlink=downlink, index=index)
    return replace(adapter, rank_blocks=_light(blocks))


def blocks_below(adapter: GlobalAdapter, rank: int, *, rings: int = 0) -> tuple[BlobRef, ...]:
    """The rank-block blobs a device of `rank` needs; of an adapter in rings, the first `rings`."""
    named = [(ref, BlockName.parse(ref.name)) for ref in adapter.rank_blocks]
    return tuple(ref for ref, name in named if name.low < rank and (name.ring is None or name.ring < rings))


def with_deltas(blobs: BlobStore, adapter: GlobalAdapter, before: GlobalAdapter) -> GlobalAdapter:
    """Return `adapter` whose rank blocks are also on offer as deltas from those of `before`, where that is shorter.

    Blocks inside messages have none: they are brought with them.
    """
    older = {ref.name: ref for ref in before.rank_blocks}
    blocks = tuple(
        _with_delta(blobs, ref, older[ref.name]) if ref.name in older else ref for ref in adapter.rank_blocks
    )
    return replace(adapter, rank_blocks=blocks)


def blob_ids(adapter: GlobalAdapter) -> set[str]:
    """Every blob that hands out this adapter."""
    refs = (*adapter.rank_blocks, adapter.head, *(adapter.base_shift.refs if adapter.base_shift else ()))
    return {ref.id for ref in refs} | {ref.delta_id for ref in refs if ref.delta_id}


def _with_delta(blobs: BlobStore, ref: BlobRef, older: BlobRef) -> BlobRef:
    if ref.inline or ref.id == older.id or ref.size != older.size or not blobs.has(older.id):
        return ref
    delta = make_delta(blobs.read_bytes(older.id), blobs.read_bytes(ref.id))
    if len(delta) > MOST_OF_A_BLOB * ref.size:
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
    index: int | None = None,  # of the ring that `tensors` are
) -> Iterator[BlobRef]:
    codec = ROUNDED if downlink == "bf16" else "identity"
    for low, high in rank_blocks(spec.rank, ranks):
        block = {name: _block(tensors[name], name, low, high) for name in names}
        yield _put(blobs, str(BlockName(low=low, high=high, ring=index)), block, codec)


def _light(blocks: Iterable[BlobRef]) -> tuple[BlobRef, ...]:
    """Return `blocks` with bytes inside as far as an assignment that names them all stays a small message."""
    light, inside = [], 0
    for ref in blocks:
        inside += len(ref.inline)
        light.append(ref if inside <= INLINE_BLOCKS else replace(ref, inline=b""))
    return tuple(light)


def _block(value: NDArray[np.float32], name: str, low: int, high: int) -> NDArray[np.float32]:
    return value[low:high] if name.endswith(".A") else value[:, low:high]


def _put_apart(blobs: BlobStore, name: str, tensors: Tensors) -> BlobRef:
    """Store tensors as a blob that never travels inside a message: most devices lack only a part of them."""
    blob_id = blobs.put_chunks(encode_chunks(tensors, "identity"))
    return BlobRef(id=blob_id, size=blobs.size(blob_id), name=name)


def _put(blobs: BlobStore, name: str, tensors: Tensors, codec: str = "identity") -> BlobRef:
    if sum(value.nbytes for value in tensors.values()) < INLINE_BYTES:
        return put_blob(blobs, encode(tensors, codec), name)
    blob_id = blobs.put_chunks(encode_chunks(tensors, codec))  # no second copy of a large adapter is made
    return BlobRef(id=blob_id, size=blobs.size(blob_id), name=name)

"""The global adapter as files: rank-block blobs for devices, a peft folder for people."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedcore.adapter import AdapterSpec, Tensors, rank_blocks
from fedcore.base_shift import SHIFT, shift_of, shift_shapes
from fedcore.codec.chain import encode, encode_chunks
from fedcore.codec.container import Outline, opening
from fedcore.codec.delta import make_delta
from fedcore.keep_set import KeepSet
from fedcore.module_paths import module_path
from fedcore.rings import ring
from protos.values import BaseShift, BlobRef, GlobalAdapter
from protos.wire import INLINE_BYTES
from storage.atomic import Buffer, write_atomic
from storage.blobs import BlobStore
from transport.payload import put_blob

ROUNDED = "bf16+zstd"  # codec of rank blocks under training.downlink = "bf16"
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
    codec = ROUNDED if downlink == "bf16" else "identity"
    blocks = tuple(
        _put(blobs, f"{low}-{high}", {name: _block(tensors[name], name, low, high) for name in _factors(spec)}, codec)
        for low, high in rank_blocks(spec.rank, ranks)
    )
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

    Block "low-high/i" is ring i's; what is equal from round to round is the same blob.
    """
    codec = ROUNDED if downlink == "bf16" else "identity"
    blocks = []
    for index, outer in enumerate(keep_sets):
        held = ring(spec, tensors, keep_sets[index - 1] if index else None, outer)
        for low, high in rank_blocks(spec.rank, ranks):
            block = {name: _block(value, name, low, high) for name, value in held.items()}
            blocks.append(_put(blobs, f"{low}-{high}/{index}", block, codec))
    return replace(adapter, rank_blocks=tuple(blocks))


def blocks_below(adapter: GlobalAdapter, rank: int, *, rings: int = 0) -> tuple[BlobRef, ...]:
    """The rank-block blobs a device of `rank` needs; of an adapter in rings, the first `rings`."""
    return tuple(
        ref
        for ref in adapter.rank_blocks
        if int(ref.name.partition("-")[0]) < rank and int(ref.name.partition("/")[2] or -1) < rings
    )


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


def write_peft_folder(folder: Path, spec: AdapterSpec, tensors: Tensors, base_model: str) -> None:
    """Write adapter_config.json and adapter_model.safetensors for peft, and head.safetensors beside them.

    The LoRA scale is already in B, so alpha = r. An adapter cannot say what is added to the base weights: where there
    is a base shift, base_shift.safetensors holds it under the names of those weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    factors = {
        f"base_model.model.{module_path(spec.geometry, layer, module)}.lora_{factor}.weight": (
            f"layers.{layer}.{module}.{factor}"
        )
        for layer, module in spec.modules()
        for factor in ("A", "B")
    }
    config = {
        "peft_type": "LORA",
        "task_type": "FEATURE_EXTRACTION",
        "base_model_name_or_path": base_model,
        "r": spec.rank,
        "lora_alpha": spec.rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
        "target_modules": sorted({module_path(spec.geometry, layer, module) for layer, module in spec.modules()}),
    }
    write_atomic(folder / "adapter_config.json", json.dumps(config, indent=2).encode())
    write_atomic(folder / "adapter_model.safetensors", _for_torch(tensors, factors, spec))
    write_atomic(folder / "head.safetensors", _for_torch(tensors, {name: name for name, _ in spec.head}, spec))
    shift = {
        f"{module_path(spec.geometry, layer, module)}.weight": f"layers.{layer}.{module}{SHIFT}"
        for layer, module in spec.modules()
    }
    if shift_of(tensors):
        write_atomic(folder / "base_shift.safetensors", _for_torch(tensors, shift, spec))


def _for_torch(tensors: Tensors, names: Mapping[str, str], spec: AdapterSpec) -> Iterator[Buffer]:
    """Yield a safetensors file as torch's tools expect it, one tensor after the other; `names` by name in the file."""
    shapes = spec.shapes() | shift_shapes(spec)
    outlines = {new: Outline(tag="F32", shape=shapes[name]) for new, name in sorted(names.items())}
    yield opening(outlines, {"format": "pt"})
    for new in outlines:
        yield np.ascontiguousarray(tensors[names[new]], dtype="<f4").reshape(-1).view(np.uint8).data


def _with_delta(blobs: BlobStore, ref: BlobRef, older: BlobRef) -> BlobRef:
    if ref.inline or ref.id == older.id or ref.size != older.size or not blobs.has(older.id):
        return ref
    delta = make_delta(blobs.read_bytes(older.id), blobs.read_bytes(ref.id))
    if len(delta) > MOST_OF_A_BLOB * ref.size:
        return ref
    return replace(ref, delta_id=blobs.put_bytes(delta), delta_base=older.id, delta_size=len(delta))


def _factors(spec: AdapterSpec) -> list[str]:
    return [f"layers.{layer}.{module}.{factor}" for layer, module in spec.modules() for factor in ("A", "B")]


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

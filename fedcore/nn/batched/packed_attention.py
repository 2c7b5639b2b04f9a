"""Attention over packed rows: transformers' own layers run on slots, and only attention itself sees rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface

from fedcore.nn.batched.packed_rows import Packing
from fedcore.nn.model.classifier import Classifier

PACKED = "fedcore_packed"  # no mask function of this name: transformers then makes no mask of its own

# Up to rows of so many tokens, torch's bfloat16 kernel for the CPU takes 1.1 to 4.6 times as long, forward and
# backward together, as float32 with the conversions (measured: 64 to 256 tokens; at 1,024 it is the faster one).
WIDENED_TOKENS = 256


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    packing: Packing,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Return (devices, slots, heads, head size) of queries, keys and values (devices, heads, slots, head size).

    Every token attends to its own row only, in causal models to what stands before it. There is no dropout.
    """
    shared = query.shape[1] // key.shape[1]
    rows = [packing.to_rows(each.transpose(1, 2)).transpose(1, 2) for each in (query, key, value)]
    keys, values = (each.repeat_interleave(shared, dim=1) if shared > 1 else each for each in rows[1:])
    causal = bool(module.is_causal)
    mask = _mask(packing, causal=causal, window=sliding_window)
    inputs = (rows[0], keys, values)
    if query.dtype is torch.bfloat16 and query.device.type == "cpu" and packing.width <= WIDENED_TOKENS:
        inputs = (rows[0].float(), keys.float(), values.float())
    output = torch.nn.functional.scaled_dot_product_attention(
        *inputs, attn_mask=mask, is_causal=causal and mask is None, scale=scaling
    )
    return packing.to_slots(output.to(query.dtype).transpose(1, 2)), None


def _mask(packing: Packing, *, causal: bool, window: int | None) -> torch.Tensor | None:
    """Return what may be seen, or None where nothing, or causality alone, hides anything.

    Padding is on the right, so causality hides it from every token that counts.
    """
    if not causal:
        return packing.mask[:, None, None, :] if len(packing.free_places) else None
    if window is None or packing.width <= window:
        return None
    place = torch.arange(packing.width)
    behind = place[:, None] - place
    return (behind >= 0) & (behind < window)


@contextmanager
def packed(classifier: Classifier) -> Iterator[None]:
    """Have the classifier's backbone take packed rows: it then needs `packing=` and `position_ids=`."""
    config: Any = classifier.backbone.config
    original = config._attn_implementation
    config._attn_implementation = PACKED
    try:
        yield
    finally:
        config._attn_implementation = original


AttentionInterface.register(PACKED, attend)

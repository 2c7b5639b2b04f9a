"""Attention over packed rows: transformers' own layers run on slots, and only attention itself runs on rows.

The function is registered under a name of its own in transformers' table of attention functions. While `packed` is
active the backbone calls it with slots; it moves queries, keys and values to rows, attends there, and moves back.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface

from fedcore.nn.batched.packed_rows import Packing
from fedcore.nn.model.classifier import Classifier

PACKED = "fedcore_packed"  # transformers has no mask function of this name, so it makes no mask of its own

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

    Every token attends to its own row only; in a causal model, to itself and the tokens before it. No dropout.
    """
    shared = query.shape[1] // key.shape[1]
    rows = [  # (rows, heads, width, head size)
        packing.to_rows(tensor.transpose(1, 2)).transpose(1, 2) for tensor in (query, key, value)
    ]
    keys, values = (row.repeat_interleave(shared, dim=1) if shared > 1 else row for row in rows[1:])
    causal = bool(module.is_causal)
    mask = _mask(packing, causal=causal, window=sliding_window)
    inputs = (rows[0], keys, values)
    if query.dtype is torch.bfloat16 and query.device.type == "cpu" and packing.width <= WIDENED_TOKENS:
        inputs = (rows[0].float(), keys.float(), values.float())
    output = torch.nn.functional.scaled_dot_product_attention(
        *inputs, attn_mask=mask, is_causal=causal and mask is None, scale=scaling
    )  # (rows, heads, width, head size)
    return packing.to_slots(output.to(query.dtype).transpose(1, 2)), None


def _mask(packing: Packing, *, causal: bool, window: int | None) -> torch.Tensor | None:
    """Return the mask of visible tokens, or None where causality alone is enough or nothing is hidden.

    Padding is on the right, so causality hides it from every true token.
    """
    if not causal:
        return packing.mask[:, None, None, :] if len(packing.free_places) else None  # (rows, 1, 1, width)
    if window is None or packing.width <= window:
        return None
    place = torch.arange(packing.width, device=packing.mask.device)
    behind = place[:, None] - place
    return (behind >= 0) & (behind < window)  # (width, width)


@contextmanager
def packed(classifier: Classifier) -> Iterator[None]:
    """Make the classifier's backbone take packed rows; it then needs `packing=` and `position_ids=`."""
    config: Any = classifier.backbone.config
    original = config._attn_implementation
    config._attn_implementation = PACKED
    try:
        yield
    finally:
        config._attn_implementation = original


AttentionInterface.register(PACKED, attend)

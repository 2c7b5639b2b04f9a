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
    softcap: float | None = None,
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
    mask = _mask(packing, causal=causal, window=sliding_window, always=softcap is not None)
    inputs = (rows[0], keys, values)
    if query.dtype is torch.bfloat16 and query.device.type == "cpu" and packing.width <= WIDENED_TOKENS:
        inputs = (rows[0].float(), keys.float(), values.float())
    if softcap is None:
        output = torch.nn.functional.scaled_dot_product_attention(
            *inputs, attn_mask=mask, is_causal=causal and mask is None, scale=scaling
        )  # (rows, heads, width, head size)
    else:
        output = _capped(*inputs, mask, scale=scaling, softcap=softcap)
    return packing.to_slots(output.to(query.dtype).transpose(1, 2)), None


def _capped(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    *,
    scale: float | None,
    softcap: float,
) -> torch.Tensor:
    """Return what attention gives, (rows, heads, width, head size), with scores kept within `softcap` (Gemma 2)."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = softcap * torch.tanh(query @ key.mT * scale / softcap)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.float().softmax(dim=-1).to(value.dtype) @ value


def _mask(packing: Packing, *, causal: bool, window: int | None, always: bool = False) -> torch.Tensor | None:
    """Return the mask of visible tokens, or None where causality alone is enough or nothing is hidden.

    With `always`, causality is in the mask too. Padding is on the right, so causality hides it from every true token.
    """
    if not causal:
        return packing.mask[:, None, None, :] if len(packing.free_places) else None  # (rows, 1, 1, width)
    if not always and (window is None or packing.width <= window):
        return None
    window = packing.width if window is None else window
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

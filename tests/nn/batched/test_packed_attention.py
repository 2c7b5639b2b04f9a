"""Attention over packed rows against attention over every row alone."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fedcore.nn.batched.packed_attention import PACKED, attend, packed
from fedcore.nn.batched.packed_rows import pack
from tests.tiny_classifiers import tiny_classifier

LENGTHS, COUNTS = np.array([3, 5, 2]), np.array([2, 1])  # two devices; slots of 8 and 2 tokens


def reference(rows: list[torch.Tensor], *, causal: bool, window: int | None) -> torch.Tensor:
    """Attention of one row: softmax(q k^T / sqrt(d)) v, by the definition. `rows` are (heads, tokens, size)."""
    query, key, value = rows
    scores = query @ key.mT / query.shape[-1] ** 0.5
    behind = torch.arange(len(scores[0]))[:, None] - torch.arange(len(scores[0]))
    if causal:
        scores = scores.masked_fill(behind < 0, -torch.inf)
    if window is not None:
        scores = scores.masked_fill(behind >= window, -torch.inf)
    return (scores.softmax(dim=-1) @ value).transpose(0, 1)  # (tokens, heads, size)


@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (True, 2), (True, 5)])
@pytest.mark.parametrize("groups", [1, 2])
def test_every_token_attends_to_its_own_row_only(causal: bool, window: int | None, groups: int) -> None:
    packing, draw = pack(LENGTHS, COUNTS), torch.Generator().manual_seed(0)
    heads, size = 4, 3
    query = torch.randn(2, heads, 8, size, generator=draw)
    key, value = (torch.randn(2, heads // groups, 8, size, generator=draw) for _ in range(2))
    output, _ = attend(
        SimpleNamespace(is_causal=causal), query, key, value, None, packing=packing, sliding_window=window
    )
    assert output.shape == (2, 8, heads, size)
    for device, begin, end in ((0, 0, 3), (0, 3, 8), (1, 0, 2)):
        wide = [tensor[device, :, begin:end] for tensor in (query, key, value)]
        wide[1:] = [tensor.repeat_interleave(groups, dim=0) for tensor in wide[1:]]
        torch.testing.assert_close(output[device, begin:end], reference(wide, causal=causal, window=window))


def test_the_backbones_own_attention_comes_back_even_after_an_error() -> None:
    classifier = tiny_classifier("bert")
    config = classifier.backbone.config
    original = config._attn_implementation
    with pytest.raises(ValueError, match="stop"), packed(classifier):
        assert config._attn_implementation == PACKED
        raise ValueError("stop")
    assert config._attn_implementation == original

"""Logits and losses of packed devices against those of every device alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedcore.nn.batched.forward import batched_logits, device_losses, device_means
from fedcore.nn.batched.packed_attention import packed
from fedcore.nn.batched.packed_rows import PackedBatch, TokenTable
from fedcore.nn.batched.schedule import Indices
from fedcore.nn.losses.cross_entropy import CROSS_ENTROPY
from fedcore.nn.training.batches import EncodedRows, collate
from fedcore.nn.training.evaluate import forward_logits
from tests.tiny_classifiers import learnable_rows, tiny_classifier
from tests.tiny_models import KINDS

SHARDS = (learnable_rows(5), learnable_rows(9))
CHOSEN = (np.array([4, 0]), np.array([1, 3, 8]))


def packed_batch(shards: tuple[EncodedRows, ...] = SHARDS, chosen: tuple[Indices, ...] = CHOSEN) -> PackedBatch:
    return TokenTable.of(shards).pack(range(len(shards)), chosen)


@pytest.mark.parametrize("family", KINDS)
def test_packed_logits_are_those_of_every_device_with_its_own_head(family: str) -> None:
    classifier = tiny_classifier(family)
    shards = tuple(replace(shard, pad_id=classifier.model.config.pad_token_id) for shard in SHARDS)
    own = {name: parameter.detach() for name, parameter in classifier.head_parameters().items()}
    heads = {name: torch.stack([value, value + 0.5]) for name, value in own.items()}
    batch = packed_batch(shards)
    with torch.no_grad(), packed(classifier):
        logits = batched_logits(classifier, batch, heads)
    assert logits.shape == (2, 3, 2) and logits.dtype == torch.float32
    for device, (shard, rows) in enumerate(zip(shards, CHOSEN, strict=True)):
        with torch.no_grad():
            for name, parameter in classifier.head_parameters().items():
                parameter.copy_(heads[name][device])
            alone = forward_logits(classifier, collate(shard, rows))
        torch.testing.assert_close(logits[device, : len(rows)], alone, rtol=1e-4, atol=1e-5)


def test_a_device_mean_leaves_the_gaps_out() -> None:
    values = torch.tensor([[2.0, 4.0, 99.0], [1.0, 2.0, 6.0]])  # the first device has two rows
    assert device_means(values, packed_batch()).tolist() == [3.0, 3.0]


def test_device_losses_add_every_devices_shift() -> None:
    batch = packed_batch()
    logits = torch.zeros(2, 3, 2)
    shift = torch.tensor([[0.0, 0.0], [np.log(3.0), 0.0]], dtype=torch.float32)
    losses = device_losses(CROSS_ENTROPY, logits, batch, shift)
    labels = SHARDS[1].labels[CHOSEN[1]]
    expected = np.mean([np.log(4 / 3) if label == 0 else np.log(4.0) for label in labels])
    assert losses.tolist() == pytest.approx([np.log(2.0), expected], rel=1e-6)

"""Logits and losses of many devices' batches in one forward pass.

The packed rows of all devices go through the shared backbone together; then every device's pooled rows go through that
device's own head, vectorised over the devices.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, vmap
from transformers.modeling_outputs import BaseModelOutputWithPooling

from fedcore.nn.accelerator.precision import autocast
from fedcore.nn.batched.packed_rows import PackedBatch
from fedcore.nn.losses.loss import Loss
from fedcore.nn.model.classifier import Classifier


def batched_logits(classifier: Classifier, batch: PackedBatch, head: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return every device's logits of its rows, (devices, most rows, labels), float32, in the classifier's precision.

    The factors are those that the stacked layers hold; `head` has the parameters of the heads by canonical name, with
    the devices as first axis.
    """
    with autocast(classifier.precision, classifier.device):
        return _logits(classifier, batch, head).float()


def _logits(classifier: Classifier, batch: PackedBatch, head: Mapping[str, torch.Tensor]) -> torch.Tensor:
    pooled = _pooled(classifier, batch)  # (rows, hidden)
    parameters = {name.removeprefix("head."): value for name, value in head.items()}
    pooled = pooled.to(next(iter(parameters.values())).dtype)[batch.pick]  # (devices, most rows, hidden)

    def head_logits(weights: Mapping[str, torch.Tensor], inputs: torch.Tensor) -> Any:
        return functional_call(classifier.head_module, dict(weights), (inputs,))

    logits: torch.Tensor = vmap(head_logits)(parameters, pooled)  # (devices, most rows, labels)
    return logits


def device_losses(loss: Loss, outputs: torch.Tensor, batch: PackedBatch, shift: torch.Tensor) -> torch.Tensor:
    """Return the mean loss of every device, (devices,), float32.

    `shift` (devices, width) is added to the outputs, as in `fedcore.nn.training.objective`.
    """
    return device_means(loss.each(outputs + shift[:, None], batch.labels), batch)


def device_means(values: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
    """Return every device's mean over its rows, (devices,), of `values` (devices, most rows)."""
    # a gap repeats the device's first row, so a value there is finite whenever the device's own values are
    return (values * batch.weights).sum(dim=1)


def _pooled(classifier: Classifier, batch: PackedBatch) -> torch.Tensor:
    """Return the inputs of the heads, (rows, hidden)."""
    packing, backbone, model = batch.packing, classifier.backbone, classifier.model
    bert = classifier.geometry.family == "bert"
    inputs = {
        "input_ids": packing.to_slots(batch.row_ids),
        "position_ids": packing.to_slots(_positions(batch, backbone)),
    }
    if bert:
        inputs["token_type_ids"] = packing.to_slots(batch.row_segments)
    states = packing.to_rows(backbone(**inputs, packing=packing).last_hidden_state)  # (rows, width, hidden)
    if not bert:
        return states[torch.arange(packing.rows, device=states.device), _last_places(batch, model)]
    pooler: Any = getattr(backbone, "pooler", None)
    output = BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=pooler(states) if pooler else None)
    pool: Any = model.pool
    pooled: torch.Tensor = pool(output, packing.mask)
    return pooled


def _positions(batch: PackedBatch, backbone: nn.Module) -> torch.Tensor:
    """Return position ids (rows, width): from 0, or as the backbone itself computes them (RoBERTa)."""
    embeddings: Any = getattr(backbone, "embeddings", None)
    count = getattr(embeddings, "create_position_ids_from_input_ids", None)
    if count is None:
        return torch.arange(batch.packing.width, device=batch.row_ids.device).expand(batch.packing.rows, -1)
    positions: torch.Tensor = count(batch.row_ids, embeddings.padding_idx)
    return positions


def _last_places(batch: PackedBatch, model: Any) -> torch.Tensor:
    """Return every row's last position with another id than the padding's, (rows,), as transformers' classifiers do."""
    places = torch.arange(batch.packing.width, device=batch.row_ids.device)
    last: torch.Tensor = torch.where(batch.row_ids != model.config.pad_token_id, places, 0).argmax(dim=1)
    return last

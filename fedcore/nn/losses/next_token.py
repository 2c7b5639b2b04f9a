"""Cross-entropy of the next token, of answered positions alone, without the logits of a batch ever being held.

Hidden states are gathered at the positions whose next token is answered. The output layer and the cross-entropy run
over chunks of them, and every chunk's gradient is taken at once: what stays for the backward pass are gradients as
large as the states. Logits at all positions would be the largest tensor of a step (16 x 512 positions and 49,152 words:
1.6 GB a copy). The output layer is frozen; it gets no gradient.

Outputs are three numbers a row: the sum of -log p over its answered tokens (nats), their number, and how many of them
are the model's first choice.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional

from fedcore.core.contract.distillation import Distillation
from fedcore.nn.losses.loss import Loss
from fedcore.nn.model.classifier import Classifier

CHUNK_BYTES = 1 << 25  # of one chunk's logits in float32; about four times as much lives at once
NO_TARGET = -100

Project = Callable[[torch.Tensor], torch.Tensor]  # states (n, hidden) -> float32 logits (n, words)


def _outputs(classifier: Classifier, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    device = classifier.device
    states = classifier.backbone(
        input_ids=batch["input_ids"].to(device), attention_mask=batch["attention_mask"].to(device), use_cache=False
    ).last_hidden_state  # (rows, tokens, hidden)
    targets = batch["labels"].to(device)[:, 1:]  # a position answers with the token after it
    answered = targets != NO_TARGET
    row = answered.nonzero()[:, 0]  # (answered,)
    losses, right = next_token_losses(
        states[:, :-1][answered], targets[answered], classifier.word_logits, words=classifier.geometry.vocab
    )
    sums = torch.zeros(len(targets), dtype=torch.float32, device=device).index_add(0, row, losses)
    counts = torch.stack([answered.sum(dim=1).float(), torch.zeros_like(sums).index_add(0, row, right)], dim=1)
    return torch.cat([sums[:, None], counts], dim=1)


def next_token_losses(
    states: torch.Tensor, targets: torch.Tensor, project: Project, *, words: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return -log p of every target (n,) after `states` (n, hidden), and 1.0 where it is the first choice, else 0.0.

    `project` gives the logits of `words` words; gradients reach the states alone.
    """
    learns = states.requires_grad and torch.is_grad_enabled()
    losses = torch.empty(len(states), dtype=torch.float32, device=states.device)
    right = torch.empty_like(losses)
    gradients = torch.empty_like(states, requires_grad=False) if learns else None
    chunk = max(1, CHUNK_BYTES // (4 * words))
    for start in range(0, len(states), chunk):
        here = slice(start, start + chunk)
        with torch.set_grad_enabled(learns):
            part = states[here].detach().requires_grad_(learns)
            logits = project(part).float()  # (chunk, words)
            loss = functional.cross_entropy(logits, targets[here], reduction="none")
        if gradients is not None:
            (gradients[here],) = torch.autograd.grad(loss.sum(), part)
        losses[here] = loss.detach()
        right[here] = (logits.detach().argmax(dim=-1) == targets[here]).float()
    if gradients is not None:
        losses = _Linked.apply(states, losses, gradients)  # type: ignore[no-untyped-call]
    return losses, right


class _Linked(torch.autograd.Function):
    """The losses as a function of their states, with the gradient of every one of them that is known already."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, losses: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gradients)
        return losses.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradients,) = ctx.saved_tensors
        return gradients * upstream[0][:, None].to(gradients.dtype), None, None


def _mean(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean over all answered tokens of the batch: every token counts alike."""
    return outputs[..., 0].sum() / outputs[..., 1].sum().clamp(min=1.0)


def _each(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return outputs[..., 0] / outputs[..., 1].clamp(min=1.0)


def _divergence(outputs: torch.Tensor, teacher: torch.Tensor, how: Distillation) -> torch.Tensor:
    raise NotImplementedError("a model that writes keeps no logits to compare with a teacher's")


NEXT_TOKEN = Loss(mean=_mean, each=_each, divergence=_divergence, outputs=_outputs)

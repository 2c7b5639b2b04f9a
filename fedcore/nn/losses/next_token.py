"""Cross-entropy of the next token, of answered positions alone, without the logits of a batch ever being held.

Hidden states are gathered at the positions whose next token is answered. The output layer and the cross-entropy run
over chunks of them, and every chunk's gradient is taken at once: what stays for the backward pass are gradients as
large as the states. Logits at all positions would be the largest tensor of a step (16 x 512 positions and 49,152 words:
1.6 GB a copy). The output layer is frozen; it gets no gradient.

Outputs are three numbers a row: the sum of -log p over its answered tokens (nats), their number, and how many of them
are the model's first choice. With a teacher they are four: the last is the sum of the divergences of its answered
tokens. The teacher's states are given for the answered positions; a chunk of them becomes logits beside the chunk of
the student's, through the same output layer, which neither a cut nor an adapter changes.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from fedcore.core.contract.distillation import Distillation
from fedcore.nn.losses.cross_entropy import divergences
from fedcore.nn.losses.loss import Batch, Lesson, Loss
from fedcore.nn.model.classifier import Classifier

CHUNK_BYTES = 1 << 25  # of one chunk's logits in float32, of both models; about four times as much lives at once
NO_TARGET = -100
WEIGHTS = "weights"  # of a batch's rows, (rows,), by which their losses and numbers of tokens count; without them 1

Project = Callable[[torch.Tensor], torch.Tensor]  # states (n, hidden) -> float32 logits (n, words)


def _outputs(classifier: Classifier, batch: Batch, lesson: Lesson | None = None) -> torch.Tensor:
    device = classifier.device
    targets = batch["labels"].to(device)[:, 1:]  # a position answers with the token after it
    answered = targets != NO_TARGET
    row = answered.nonzero()[:, 0]  # (answered,)
    losses, right = next_token_losses(
        _states(classifier, batch),
        targets[answered],
        classifier.word_logits,
        words=classifier.geometry.vocab,
        lesson=lesson,
    )
    zeros = torch.zeros(len(losses), len(targets), dtype=torch.float32, device=device)
    sums = zeros.index_add(1, row, losses)  # (losses, rows)
    counts = [answered.sum(dim=1).float(), torch.zeros_like(zeros[0]).index_add(0, row, right)]
    outputs = torch.stack([sums[0], *counts, *sums[1:]], dim=1)
    return outputs * batch[WEIGHTS].to(device)[:, None] if WEIGHTS in batch else outputs


def _states(classifier: Classifier, batch: Batch) -> torch.Tensor:
    """Return the hidden states of all answered positions, row by row, (answered, hidden)."""
    device = classifier.device
    states: torch.Tensor = classifier.backbone(
        input_ids=batch["input_ids"].to(device), attention_mask=batch["attention_mask"].to(device), use_cache=False
    ).last_hidden_state  # (rows, tokens, hidden)
    return states[:, :-1][batch["labels"].to(device)[:, 1:] != NO_TARGET]


def next_token_losses(
    states: torch.Tensor, targets: torch.Tensor, project: Project, *, words: int, lesson: Lesson | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return -log p of every target (n,) after `states` (n, hidden), and 1.0 where it is the first choice, else 0.0.

    The former are (1, n); with a `lesson`, whose answers are the teacher's states (n, hidden), they are (2, n), and the
    second line has the divergences from the teacher. `project` gives the logits of `words` words; gradients reach the
    states alone.
    """
    learns = states.requires_grad and torch.is_grad_enabled()
    kinds = 1 if lesson is None else 2
    losses = torch.empty(kinds, len(states), dtype=torch.float32, device=states.device)
    right = torch.empty_like(losses[0])
    gradients = states.new_empty(kinds, *states.shape) if learns else None
    chunk = max(1, CHUNK_BYTES // (4 * words * kinds))
    for start in range(0, len(states), chunk):
        here = slice(start, start + chunk)
        with torch.set_grad_enabled(learns):
            part = states[here].detach().requires_grad_(learns)
            logits = project(part).float()  # (chunk, words)
            found = _losses_of(logits, targets[here], project, lesson, here)
        right[here] = (logits.detach().argmax(dim=-1) == targets[here]).float()
        for kind, loss in enumerate(found):
            if gradients is not None:
                (gradients[kind, here],) = torch.autograd.grad(loss.sum(), part, retain_graph=kind + 1 < kinds)
            losses[kind, here] = loss.detach()
    if gradients is not None:
        losses = _Linked.apply(states, losses, gradients)  # type: ignore[no-untyped-call]
    return losses, right


def _losses_of(
    logits: torch.Tensor, targets: torch.Tensor, project: Project, lesson: Lesson | None, here: slice
) -> list[torch.Tensor]:
    """Return the cross-entropy of a chunk's positions, (chunk,), and with a lesson their divergence."""
    losses = [functional.cross_entropy(logits, targets, reduction="none")]
    if lesson is not None:
        with torch.no_grad():
            teacher = project(lesson.answers[here].to(logits.device)).float()
        losses.append(divergences(logits, teacher, lesson.how))
    return losses


class _Linked(torch.autograd.Function):
    """The losses (kinds, n) of states (n, hidden), with the gradients of every one of them that are known already."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, losses: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gradients)
        return losses.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradients,) = ctx.saved_tensors
        return (gradients * upstream[0][..., None].to(gradients.dtype)).sum(dim=0), None, None


def _mean(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean over all answered tokens of the batch: every token counts alike."""
    return outputs[..., 0].sum() / outputs[..., 1].sum().clamp(min=1.0)


def _each(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return outputs[..., 0] / outputs[..., 1].clamp(min=1.0)


def _divergence(outputs: torch.Tensor, teacher: torch.Tensor, how: Distillation) -> torch.Tensor:
    """Return every row's divergence, weighed by its tokens: the mean over rows is that over all answered tokens."""
    total = outputs[..., 1].sum().clamp(min=1.0)
    return outputs[..., 3] * (outputs[..., 3].numel() / total)


NEXT_TOKEN = Loss(mean=_mean, each=_each, divergence=_divergence, outputs=_outputs, states=_states)

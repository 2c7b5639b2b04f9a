"""Taylor: |weight x gradient| of the effective weights, from the true gradients of one calibration batch.

Source: Molchanov et al., "Importance estimation for neural network pruning", 2019, arXiv 1906.10771, eq. 8 in its
absolute form. How the member matrices of a group count together: `fedcore.nn.criteria.group_scores`.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from fedcore.core.contract.outcome import GroupScores
from fedcore.nn.accelerator.loss_scale import LossScale
from fedcore.nn.criteria.group_scores import BLOCK_ROWS, combine, group_sums
from fedcore.nn.criteria.layer_inputs import calibration_failed
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.lora import trainable_parameters
from fedcore.nn.training.batches import Batch
from fedcore.nn.training.evaluate import forward_logits
from fedcore.nn.training.objective import Objective, objective_of


@dataclass(frozen=True, slots=True, kw_only=True)
class TaylorScorer:
    """|w . g| of the effective weights, from the true gradients of one calibration batch."""

    block_rows: int = BLOCK_ROWS
    state: None = None

    def during_steps(self, classifier: Classifier) -> AbstractContextManager[None]:
        """Return an empty context: the training steps stay as they are."""
        return nullcontext()

    def observe(self, classifier: Classifier) -> None:
        """Do nothing: this criterion needs no training step."""

    def scores(self, classifier: Classifier, batch: Batch, objective: Objective | None = None) -> GroupScores:
        """Run one forward and backward pass over `batch`; parameters and their gradients stay untouched.

        Hooks keep the input of every prunable layer and, once the gradient of its output arrives, form the weight
        gradient block by block. Raises FedcoreError where the loss is not finite.
        """
        objective = objective or objective_of(classifier)
        vectors: dict[tuple[int, str], torch.Tensor] = {}
        handles = []
        for layer in classifier.layers:
            for module in classifier.geometry.modules:
                if classifier.geometry.cut(module) is not None:
                    hook = _GradientHook(classifier, (layer, module), vectors, self.block_rows)
                    handles.append(classifier.linear(layer, module).register_forward_hook(hook))
        try:
            with _frozen(classifier):
                logits = forward_logits(classifier, batch)
                loss = objective(logits, batch["labels"].to(logits.device))
                if not torch.isfinite(loss):
                    raise calibration_failed()
                # scores are normalised, so any factor of the loss will do
                LossScale(classifier.precision).scaled(loss).backward()  # type: ignore[no-untyped-call]
        finally:
            for handle in handles:
                handle.remove()
        return combine(vectors, classifier.geometry, layers=classifier.layers)


class _GradientHook:
    """Forward hook of one linear layer: scores its groups when the gradient of its output arrives."""

    def __init__(
        self,
        classifier: Classifier,
        key: tuple[int, str],
        vectors: dict[tuple[int, str], torch.Tensor],
        block_rows: int,
    ) -> None:
        self.layer = classifier.linear(*key)
        cut = classifier.geometry.cut(key[1])
        if cut is None:
            raise ValueError(f"{key[1]} is never cut")
        self.key, self.cut, self.vectors, self.block_rows = key, cut, vectors, block_rows

    def __call__(self, module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        inputs = args[0].detach().flatten(0, -2)  # (tokens, in)
        if not output.requires_grad:  # nothing below is trainable: the gradient ends here
            output.requires_grad_()

        def score(output_gradient: torch.Tensor) -> None:
            upstream = output_gradient.detach().flatten(0, -2)  # (tokens, out)

            def gradient(rows: slice) -> torch.Tensor:
                return upstream[:, rows].T.float() @ inputs.float()  # (rows, in)

            self.vectors[self.key] = group_sums(self.layer, self.cut, gradient, self.block_rows)

        output.register_hook(score)  # type: ignore[no-untyped-call]


@contextmanager
def _frozen(classifier: Classifier) -> Iterator[None]:
    """Freeze all parameters, so that a backward pass leaves their gradients alone, and disable dropout."""
    trainable = [parameter for parameter in trainable_parameters(classifier).values() if parameter.requires_grad]
    training = classifier.model.training
    classifier.model.eval()
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
        classifier.model.train(training)

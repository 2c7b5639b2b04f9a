"""The inputs of the two layers that read groups, o and down, in one forward pass over a calibration batch.

Only true tokens count; padding is left out.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from fedcore.core.contract.outcome import GroupScores
from fedcore.core.errors import FedcoreError
from fedcore.core.model.geometry import READERS, Cut
from fedcore.nn.criteria.group_scores import combine
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.training.batches import Batch
from fedcore.nn.training.evaluate import forward_logits
from fedcore.nn.training.objective import Objective, objective_of

See = Callable[[int, str, torch.Tensor], None]  # layer, module, inputs (tokens, in) in float32
Rule = Callable[[nn.Module, Cut, torch.Tensor], torch.Tensor]  # layer, its cut, inputs -> scores (groups,)


def watch_inputs(classifier: Classifier, batch: Batch, see: See, objective: Objective | None = None) -> None:
    """Run `batch` through the model, without gradients or dropout, and call `see` with the inputs of every o and down.

    Raises FedcoreError where the loss is not finite.
    """
    real, objective = batch["attention_mask"].bool(), objective or objective_of(classifier)
    handles = []
    for layer in classifier.layers:
        for module in READERS:

            def hook(_: nn.Module, args: tuple[torch.Tensor, ...], layer: int = layer, module: str = module) -> None:
                see(layer, module, args[0].detach()[real.to(args[0].device)].float())  # (tokens, in)

            handles.append(classifier.linear(layer, module).register_forward_pre_hook(hook))
    training = classifier.model.training
    classifier.model.eval()
    try:
        with torch.no_grad():
            logits = forward_logits(classifier, batch)
            if not torch.isfinite(objective(logits, batch["labels"].to(logits.device))):
                raise calibration_failed()
    finally:
        classifier.model.train(training)
        for handle in handles:
            handle.remove()


@dataclass(frozen=True, slots=True, kw_only=True)
class InputScorer:
    """Scores by a rule over the inputs of o and down and their effective weights: one forward pass, no gradient."""

    rule: Rule
    state: None = None

    def during_steps(self, classifier: Classifier) -> AbstractContextManager[None]:
        """Return an empty context: the training steps stay as they are."""
        return nullcontext()

    def observe(self, classifier: Classifier) -> None:
        """Do nothing: this criterion needs no training step."""

    def scores(self, classifier: Classifier, batch: Batch, objective: Objective | None = None) -> GroupScores:
        """Run one forward pass over `batch`. Raises FedcoreError where the loss is not finite."""
        vectors: dict[tuple[int, str], torch.Tensor] = {}

        def see(layer: int, module: str, inputs: torch.Tensor) -> None:
            cut = classifier.geometry.cut(module)
            if cut is None:
                raise ValueError(f"{module} is never cut")
            vectors[layer, module] = self.rule(classifier.linear(layer, module), cut, inputs)

        watch_inputs(classifier, batch, see, objective)
        return combine(vectors, classifier.geometry, layers=classifier.layers)


def calibration_failed() -> FedcoreError:
    """Return the error of a calibration batch whose loss is not finite."""
    return FedcoreError("importance: the calibration loss is not finite; lower training.learning_rate")

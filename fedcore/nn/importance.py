"""How much every head unit and FFN channel matters: first-order scores, |weight x gradient| summed per group.

How the member matrices of a group count together: `fedcore.nn.group_scores`.

Sources: Molchanov et al., "Importance estimation for neural network pruning", 2019, arXiv 1906.10771, eq. 8 in its
absolute form (`TaylorScorer`); Zhang et al., "LoRAPrune", 2024, arXiv 2305.18403 (`LoraTaylorScorer`), as in its
released code: absolute, not squared, averaged with decay 0.9.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from peft.tuners.lora import Linear as LoraLinear
from torch import nn

from fedcore.errors import FedcoreError
from fedcore.geometry import Cut, Geometry
from fedcore.nn.batches import Batch
from fedcore.nn.classifier import Classifier
from fedcore.nn.frozen import first_trained_layer
from fedcore.nn.group_scores import BLOCK_ROWS, combine, group_sums, unit_norm
from fedcore.nn.lora import adapted, factors, trainable_parameters
from fedcore.nn.objective import PLAIN, Objective
from fedcore.outcome import GroupScores

DECAY = 0.9  # of the running averages


class Scorer(Protocol):
    """Where group scores come from."""

    def observe(self, classifier: Classifier) -> None:
        """See the gradients of one training step, after its backward pass."""
        ...

    def scores(self, classifier: Classifier, batch: Batch, objective: Objective = PLAIN) -> GroupScores:
        """Return the scores of every kept group; `batch` and the loss of training serve for calibration."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TaylorScorer:
    """|w . g| of the effective weights, from the true gradients of one calibration batch."""

    block_rows: int = BLOCK_ROWS

    def observe(self, classifier: Classifier) -> None:
        """Do nothing: training steps are not looked at."""

    def scores(self, classifier: Classifier, batch: Batch, objective: Objective = PLAIN) -> GroupScores:
        """Run one forward and backward pass over `batch`; parameters and their gradients stay untouched.

        Hooks keep the input of every prunable layer and, once the gradient of its output arrives, form the weight
        gradient block by block. Raises FedcoreError where the loss is not finite.
        """
        vectors: dict[tuple[int, str], torch.Tensor] = {}
        handles = []
        for layer in range(classifier.geometry.layers):
            for module in classifier.geometry.modules:
                if classifier.geometry.cut(module) is not None:
                    hook = _GradientHook(classifier, (layer, module), vectors, self.block_rows)
                    handles.append(classifier.linear(layer, module).register_forward_hook(hook))
        try:
            with _frozen(classifier):
                logits = classifier.model(**{key: value for key, value in batch.items() if key != "labels"}).logits
                loss = objective(logits.float(), batch["labels"])
                if not torch.isfinite(loss):
                    raise calibration_failed()
                loss.backward()  # type: ignore[no-untyped-call]
        finally:
            for handle in handles:
                handle.remove()
        return combine(vectors, classifier.geometry)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmoothedScores:
    """Moving averages per group in dense coordinates, so that they outlive surgery and its undoing."""

    heads: NDArray[np.float32]  # (layers, head units)
    channels: NDArray[np.float32]  # (layers, ffn)

    @staticmethod
    def zero(geometry: Geometry) -> "SmoothedScores":
        """Return the averages before the first step."""
        return SmoothedScores(
            heads=np.zeros((geometry.layers, geometry.head_units), dtype=np.float32),
            channels=np.zeros((geometry.layers, geometry.ffn), dtype=np.float32),
        )


class LoraTaylorScorer:
    """FedSpine's signal: the gradients LoRA training has anyway stand in for those of the weights.

    g = dB A + B dA estimates the weight gradient up to a constant; |g (W + s B A)| is averaged over steps. Groups
    cut away keep their last average, and so do layers that do not train. A frozen factor has no gradient: of the two
    terms, the other remains. `second_order` subtracts dB dA as LoRAPrune does: the term carries the square
    of a gradient where the others carry one, so its weight depends on the loss scale; it is off by default.
    """

    def __init__(
        self, state: SmoothedScores, *, decay: float = DECAY, second_order: bool = False, block_rows: int = BLOCK_ROWS
    ) -> None:
        self.state = state
        self.decay = decay
        self.second_order = second_order
        self.block_rows = block_rows

    def observe(self, classifier: Classifier) -> None:
        """Average one step's scores in; a step whose gradients hold NaN or infinity is skipped.

        Raises ConfigError where no adapter touches the head units or none the channels.
        """
        first = first_trained_layer(classifier)
        fresh = combine(self._vectors(classifier), classifier.geometry, normalise=False, first_layer=first)
        if not all(np.isfinite(each).all() for each in (*fresh.heads, *fresh.channels)):
            return
        heads, channels = self.state.heads.copy(), self.state.channels.copy()
        keep = classifier.keep_set
        for target, kept, found in ((heads, keep.heads, fresh.heads), (channels, keep.channels, fresh.channels)):
            for layer, new in enumerate(found, start=first):
                index = list(kept[layer])
                target[layer, index] = self.decay * target[layer, index] + (1 - self.decay) * new
        self.state = SmoothedScores(heads=heads, channels=channels)

    def scores(self, classifier: Classifier, batch: Batch, objective: Objective = PLAIN) -> GroupScores:
        """Return the averages of the kept groups; neither batch nor loss is needed."""
        keep = classifier.keep_set
        return GroupScores(
            heads=tuple(unit_norm(self.state.heads[i, list(units)]) for i, units in enumerate(keep.heads)),
            channels=tuple(unit_norm(self.state.channels[i, list(units)]) for i, units in enumerate(keep.channels)),
        )

    def _vectors(self, classifier: Classifier) -> dict[tuple[int, str], torch.Tensor]:
        vectors: dict[tuple[int, str], torch.Tensor] = {}
        for key, layer in adapted(classifier):
            _, index, module = key.split(".")
            cut = classifier.geometry.cut(module)
            a, b = factors(layer)
            if cut is None or (a.grad is None and b.grad is None):
                continue
            vectors[int(index), module] = self._vector(layer, cut)
        return vectors

    def _vector(self, layer: LoraLinear, cut: Cut) -> torch.Tensor:
        a, b = (each.detach() for each in factors(layer))
        da, db = (each.grad for each in factors(layer))
        ahead = a - da if self.second_order and da is not None else a
        pairs = [(left, right) for left, right in ((db, ahead), (b, da)) if left is not None and right is not None]

        def gradient(rows: slice) -> torch.Tensor:
            terms = [left[rows] @ right for left, right in pairs]
            return sum(terms[1:], start=terms[0])

        return group_sums(layer, cut, gradient, self.block_rows)


def calibration_failed() -> FedcoreError:
    """Return the error of a calibration batch whose loss is not finite."""
    return FedcoreError("importance: the calibration loss is not finite; lower training.learning_rate")


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
        if not output.requires_grad:  # nothing below is trainable: let the gradient end here
            output.requires_grad_()

        def score(output_gradient: torch.Tensor) -> None:
            upstream = output_gradient.detach().flatten(0, -2)  # (tokens, out)

            def gradient(rows: slice) -> torch.Tensor:
                return upstream[:, rows].T.float() @ inputs.float()

            self.vectors[self.key] = group_sums(self.layer, self.cut, gradient, self.block_rows)

        output.register_hook(score)  # type: ignore[no-untyped-call]


@contextmanager
def _frozen(classifier: Classifier) -> Iterator[None]:
    """Keep a backward pass away from the parameters' gradients, and dropout out."""
    trainable = [each for each in trainable_parameters(classifier).values() if each.requires_grad]
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

"""LoRA-Taylor, FedSpine's signal: the gradients of LoRA training replace those of the weights.

    g = dB A + B dA,   score_g = average over steps of sum |g (W + s B A)|

Source: Zhang et al., "LoRAPrune", 2024, arXiv 2305.18403, as in its released code: absolute, not squared, averaged
with decay 0.9. How the member matrices of a group count together: `fedcore.nn.criteria.group_scores`.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import cast

import numpy as np
import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from fedcore.core.contract.outcome import GroupScores
from fedcore.core.model.geometry import Cut
from fedcore.nn.criteria.group_scores import BLOCK_ROWS, combine, group_sums, unit_norm
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.frozen import first_trained_layer
from fedcore.nn.model.lora import adapted, factors
from fedcore.nn.training.batches import Batch
from fedcore.nn.training.objective import Objective
from fedcore.nn.training.scorer import GroupState

DECAY = 0.9  # of the running averages


class LoraTaylorScorer:
    """Running averages of one device. g estimates the weight gradient up to a constant.

    Groups cut away keep their last average, and so do layers that do not train. A frozen factor has no gradient: of the
    two terms, the other remains. `second_order` subtracts dB dA as LoRAPrune does: the term carries the square of a
    gradient where the others carry one, so its weight depends on the loss scale; it is off by default.
    """

    def __init__(
        self, state: GroupState, *, decay: float = DECAY, second_order: bool = False, block_rows: int = BLOCK_ROWS
    ) -> None:
        self.state = state
        self.decay = decay
        self.second_order = second_order
        self.block_rows = block_rows

    def during_steps(self, classifier: Classifier) -> AbstractContextManager[None]:
        """Return an empty context: the training steps stay as they are."""
        return nullcontext()

    def observe(self, classifier: Classifier) -> None:
        """Average one step's scores in; a step whose gradients hold NaN or infinity is skipped.

        Raises ConfigError where no adapter touches the head units or none the channels.
        """
        first = first_trained_layer(classifier)
        layers = [layer for layer in classifier.layers if layer >= first]
        fresh = combine(self._vectors(classifier), classifier.geometry, layers=layers, normalise=False)
        if not all(np.isfinite(vector).all() for vector in (*fresh.heads, *fresh.channels)):
            return
        heads, channels = self.state.heads.copy(), self.state.channels.copy()
        keep = classifier.keep_set
        for target, kept, vectors in ((heads, keep.heads, fresh.heads), (channels, keep.channels, fresh.channels)):
            for layer in layers:
                index = list(kept[layer])
                target[layer, index] = self.decay * target[layer, index] + (1 - self.decay) * vectors[layer]
        self.state = GroupState(heads=heads, channels=channels)

    def scores(self, classifier: Classifier, batch: Batch, objective: Objective | None = None) -> GroupScores:
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

    def _vector(self, layer: LoraLayer, cut: Cut) -> torch.Tensor:
        a, b = (factor.detach() for factor in factors(layer))
        da, db = (factor.grad for factor in factors(layer))
        ahead = a - da if self.second_order and da is not None else a
        pairs = [(left, right) for left, right in ((db, ahead), (b, da)) if left is not None and right is not None]

        def gradient(rows: slice) -> torch.Tensor:
            terms = [left[rows] @ right for left, right in pairs]  # (rows, in) each
            return sum(terms[1:], start=terms[0])

        return group_sums(cast(nn.Module, layer), cut, gradient, self.block_rows)

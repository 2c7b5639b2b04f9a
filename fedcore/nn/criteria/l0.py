"""L0: gates on head units and FFN channels, learned together with the adapters; an open group is important.

While a device trains, every input of o and down is multiplied by a hard-concrete gate of its group
(`fedcore.nn.criteria.hard_concrete`), and the loss's gradient moves the gates' log-alphas by Adam. After each step
every layer's log-alphas are shifted by one constant so that the mean openness of its heads, and of its channels, is
OPENNESS: a group can stay open only at the expense of its neighbours. Scores are the expected openness. Log-alphas stay
on the device from round to round; Adam's moments do not.

Compresso reaches a target sparsity by Lagrange multipliers that rise over thousands of steps. A device here takes a few
dozen, and the coordinator decides how many groups it keeps, equally many in every layer. Only the order within a layer
matters, so the constraint is met exactly at every step and only the order is learned.

Sources: Louizos et al., "Learning sparse neural networks through L0 regularization", 2018, arXiv 1712.01312; Guo et
al., "Compresso: Structured pruning with collaborative prompting learns compact large language models", 2023, arXiv
2310.05015 (gates on heads and FFN units, learned with LoRA).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedcore.core.contract.outcome import GroupScores
from fedcore.core.model.geometry import READERS
from fedcore.nn.criteria.group_scores import scores_of_layers
from fedcore.nn.criteria.hard_concrete import openness, sample, shifted_to
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.training.batches import Batch
from fedcore.nn.training.objective import Objective
from fedcore.nn.training.scorer import GroupState

OPENNESS = 0.75  # mean over the kept groups; lower values disturb the training of the adapters
FIRST = 0.0  # initial log-alpha of every group; the first shift sets the mean openness
RATE = 0.1  # Adam's learning rate

Matrix = NDArray[np.float32]  # (layers, groups)
Hook = Callable[[nn.Module, tuple[torch.Tensor, ...]], tuple[torch.Tensor, ...]]
Gates = dict[tuple[int, str], torch.Tensor]  # (layer, "o" or "down") -> log-alphas of the kept groups


class L0Scorer:
    """The gates of one device. `state` has log-alphas in dense coordinates; those of removed groups do not change."""

    def __init__(self, state: GroupState, *, seed: int) -> None:
        self.state = state
        self._draw = torch.Generator().manual_seed(seed)
        self._gates: Gates = {}
        self._optimizer: torch.optim.Optimizer | None = None

    @contextmanager
    def during_steps(self, classifier: Classifier) -> Iterator[None]:
        """Multiply the readers' inputs by gates, drawn anew in every forward pass."""
        self._gates = _gates(classifier, self.state)
        self._optimizer = torch.optim.Adam(list(self._gates.values()), lr=RATE)
        handles = [
            classifier.linear(layer, module).register_forward_pre_hook(self._hook(classifier, layer, module))
            for layer, module in self._gates
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._gates, self._optimizer = {}, None

    def observe(self, classifier: Classifier) -> None:
        """Move the gates by the gradients of one training step; one with NaN or infinity is skipped."""
        if self._optimizer is None:
            return
        gradients = [gate.grad for gate in self._gates.values() if gate.grad is not None]
        if all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
            self._optimizer.step()
            self._keep(classifier)
        self._optimizer.zero_grad(set_to_none=True)

    def scores(self, classifier: Classifier, batch: Batch, objective: Objective | None = None) -> GroupScores:
        """Return the expected openness of the kept groups; neither batch nor loss is needed."""
        gates = _gates(classifier, self.state)
        heads, channels = (
            [openness(gates[layer, module].detach()) for layer in classifier.layers] for module in READERS
        )
        return scores_of_layers(heads, channels, classifier.keep_set)

    @torch.no_grad()
    def _keep(self, classifier: Classifier) -> None:
        heads, channels = self.state.heads.copy(), self.state.channels.copy()
        for (layer, module), gate in self._gates.items():
            gate.copy_(shifted_to(gate, OPENNESS))
            target, kept = _place(classifier, heads, channels, module)
            target[layer, list(kept[layer])] = gate.cpu().numpy()
        self.state = GroupState(heads=heads, channels=channels)

    def _hook(self, classifier: Classifier, layer: int, module: str) -> Hook:
        cut = classifier.geometry.cut(module)
        if cut is None:
            raise ValueError(f"{module} is never cut")
        width = cut.width

        def gated(_: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            gate = sample(self._gates[layer, module], self._draw).repeat_interleave(width)
            return (args[0] * gate.to(args[0].dtype), *args[1:])

        return gated


def _gates(classifier: Classifier, state: GroupState) -> Gates:
    """Return log-alphas of the kept groups as leaf tensors, every layer at mean openness OPENNESS."""
    gates: Gates = {}
    for layer in classifier.layers:
        for module in READERS:
            source, kept = _place(classifier, state.heads, state.channels, module)
            log_alpha = torch.from_numpy(source[layer, list(kept[layer])])
            device = classifier.base_linear(layer, module).weight.device
            gates[layer, module] = shifted_to(log_alpha, OPENNESS).to(device).requires_grad_(True)
    return gates


def _place(
    classifier: Classifier, heads: Matrix, channels: Matrix, module: str
) -> tuple[Matrix, Sequence[tuple[int, ...]]]:
    keep = classifier.keep_set
    return (heads, keep.heads) if module == "o" else (channels, keep.channels)

"""The influence of whole blocks: how much each changes the hidden state, in one forward pass.

    influence_l = mean over tokens of 1 - cos(input of block l, output of block l)

in [0, 2]; 0 is a block that passes its input through, up to its length. Only true tokens count.

Source: Men et al., "ShortGPT: Layers in large language models are more redundant than you expect", 2024, arXiv
2403.03853, eq. 1 ("block influence").
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedcore.core.contract.outcome import GroupScores
from fedcore.core.model.module_paths import blocks_path
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.training.batches import Batch
from fedcore.nn.training.evaluate import forward_logits
from fedcore.nn.training.objective import Objective
from fedcore.nn.training.scorer import GroupState, Scorer


@dataclass(frozen=True, slots=True)
class WithInfluences:
    """A criterion's scores, and with them the influences of blocks on the same batch."""

    scorer: Scorer

    @property
    def state(self) -> GroupState | None:
        """What the criterion carries over rounds."""
        return self.scorer.state

    def during_steps(self, classifier: Classifier) -> AbstractContextManager[None]:
        """Do what the criterion does."""
        return self.scorer.during_steps(classifier)

    def observe(self, classifier: Classifier) -> None:
        """Let the criterion see a step."""
        self.scorer.observe(classifier)

    def scores(self, classifier: Classifier, batch: Batch, objective: Objective | None = None) -> GroupScores:
        """Return the criterion's scores with `layers`; raises what it raises."""
        scores = self.scorer.scores(classifier, batch, objective)
        return replace(scores, layers=block_influences(classifier, batch))


def block_influences(classifier: Classifier, batch: Batch) -> NDArray[np.float32]:
    """Return the influence of every block that is left, (blocks,), without gradients or dropout."""
    blocks: Any = classifier.backbone.get_submodule(blocks_path(classifier.geometry))
    found = np.zeros(len(blocks), dtype=np.float32)
    real = batch["attention_mask"].bool()
    handles = [
        block.register_forward_hook(partial(_note, found, place, real), with_kwargs=True)
        for place, block in enumerate(blocks)
    ]
    training = classifier.model.training
    classifier.model.eval()
    try:
        with torch.no_grad():
            forward_logits(classifier, batch)
    finally:
        classifier.model.train(training)
        for handle in handles:
            handle.remove()
    return found


def _note(
    found: NDArray[np.float32],
    place: int,
    real: torch.Tensor,
    block: nn.Module,
    args: tuple[torch.Tensor, ...],
    kwargs: dict[str, Any],
    output: Any,
) -> None:
    before = args[0] if args else kwargs["hidden_states"]  # (rows, tokens, hidden)
    after = output if isinstance(output, torch.Tensor) else output[0]
    tokens = real.to(before.device)
    alike = nn.functional.cosine_similarity(before[tokens].float(), after[tokens].float(), dim=-1)  # (true tokens,)
    found[place] = max(0.0, float(1.0 - alike.mean()))  # rounding may give a little less than 0

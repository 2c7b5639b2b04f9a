"""The influence of whole blocks: how much each changes the hidden state, in one forward pass.

    influence_l = mean over tokens of 1 - cos(input of block l, output of block l)

in [0, 2]; 0 is a block that passes its input through, up to its length. Only true tokens count.

Source: Men et al., "ShortGPT: Layers in large language models are more redundant than you expect", 2024, arXiv
2403.03853, eq. 1 ("block influence").
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedcore.core.model.module_paths import blocks_path
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.training.batches import Batch
from fedcore.nn.training.evaluate import forward_logits


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

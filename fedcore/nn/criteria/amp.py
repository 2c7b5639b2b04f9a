"""AMP: how much a structure adds to the residual stream, or lets through, on real inputs.

    head unit h:  mean over tokens of || X_h W_h^T ||_1
    channel j:    mean over tokens of |X_j|

X_h are the input columns of o that belong to the unit, W_h the effective weights W + s B A on them: the unit's own
contribution to the layer's output. X_j is the input of down: what up (and gate) and the activation function make of
the batch. The paper has one head per structure; under grouped-query attention a unit is several query heads, and
queries that are removed together are projected together. Biases of o and down belong to no group.

Source: Mugnaini et al., "Efficient LLMs with AMP: Attention heads and MLP pruning", 2025, arXiv 2504.21174; averaged
over tokens as in its released code.
"""

import torch
from torch import nn

from fedcore.core.model.geometry import Cut
from fedcore.nn.criteria.group_scores import effective_weight


def amp(layer: nn.Module, cut: Cut, inputs: torch.Tensor) -> torch.Tensor:
    """Return the scores (groups,) of a layer that is cut on its inputs (tokens, in)."""
    if cut.unit == "channel":
        return inputs.abs().mean(dim=0)
    starts = range(0, inputs.shape[1], cut.width)
    units = [slice(start, start + cut.width) for start in starts]
    return torch.stack([_projected(layer, inputs, columns) for columns in units])


@torch.no_grad()
def _projected(layer: nn.Module, inputs: torch.Tensor, columns: slice) -> torch.Tensor:
    contribution = inputs[:, columns] @ effective_weight(layer, columns=columns).T  # (tokens, out)
    return contribution.abs().sum() / len(inputs)

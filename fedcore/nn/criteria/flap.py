"""FLAP: weighted input feature variance. An input that hardly varies can be replaced by its mean.

`fedcore.nn.criteria.compensation` does that.

    WIFV_j = Var(X_j) * ||W_:,j||_2^2

for every input column j of o and down, with effective weights W + s B A and the population variance over all true
tokens of the batch; a head unit is the sum over its columns. The paper standardises each layer's scores before it
ranks all layers together; here every layer keeps equally many groups, so only the order within a layer matters, which
standardising never changes.

Source: An et al., "Fluctuation-based adaptive structured pruning for large language models", 2024, arXiv 2312.11983.
"""

import torch
from torch import nn

from fedcore.core.model.geometry import Cut
from fedcore.nn.criteria.group_scores import column_sums, per_group


def flap(layer: nn.Module, cut: Cut, inputs: torch.Tensor) -> torch.Tensor:
    """Return the scores (groups,) of a layer that is cut on its inputs (tokens, in)."""
    return per_group(inputs.var(dim=0, correction=0) * column_sums(layer, torch.square), cut)

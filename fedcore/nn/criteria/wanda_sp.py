"""Wanda, structured: mean |weight| times the norm of its input.

    score_j = mean_i |W_ij| * ||X_j||_2

for every input column j of o and down, with effective weights W + s B A and X_j over all true tokens of the batch; a
head unit is the sum over its columns.

Sources: Sun et al., "A simple and effective pruning approach for large language models", 2024, arXiv 2306.11695, eq. 1;
its structured form "Wanda-sp" as in An et al., 2024, arXiv 2312.11983, and its released code.
"""

import torch
from torch import nn

from fedcore.core.model.geometry import Cut
from fedcore.nn.criteria.group_scores import column_sums, per_group, rows_of


def wanda_sp(layer: nn.Module, cut: Cut, inputs: torch.Tensor) -> torch.Tensor:
    """Return the scores (groups,) of a layer that is cut on its inputs (tokens, in)."""
    mean = column_sums(layer, torch.abs) / rows_of(layer)
    return per_group(mean * inputs.norm(dim=0), cut)

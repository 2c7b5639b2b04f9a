"""raFLoRA: FlexLoRA whose every rank component is averaged over those devices alone that hold it.

    G' = sum_j sum_{k: r_k > j} p_kj B_k[:, j] A_k[j]        p_kj = w_k / sum_{i: r_i > j} w_i

Wu et al., "Preventing rank collapse in federated low-rank adaptation with client heterogeneity", 2026, arXiv
2602.13486. The paper parts components at the ranks in use and gives each part the weights of its holders; as holders
only change there, weights component by component are the same thing. Decomposed and handed out like FlexLoRA.
Components nobody of a round held keep what was handed out. A server_lr of 1 is the paper's.
"""

import numpy as np
from numpy.typing import NDArray

from fedcore.core.aggregation.bundle.balanced import balanced_factors
from fedcore.core.aggregation.bundle.bundling import Bundling, Combined, Layer
from fedcore.core.aggregation.bundle.returned import returned_product, stacked_mean
from fedcore.core.aggregation.rules.delta_stack import EMPTY_COMPONENT


def raflora(*, server_lr: float = 1.0, seed: int = 0) -> Bundling:
    """Return raFLoRA's aggregator."""
    return Bundling(name="raflora", rule=mean_over_holders, settles=False, server_lr=server_lr, seed=seed)


def mean_over_holders(layer: Layer) -> Combined:
    """Return the decomposition of the products' mean, each component's weights those of its holders."""
    products = [returned_product(layer.b, layer.a, leaf) for leaf in layer.leaves]
    ranks = [leaf.da.shape[0] for leaf in layer.leaves]
    held: NDArray[np.float64] = np.zeros(max(ranks))
    for rank, leaf in zip(ranks, layer.leaves, strict=True):
        held[:rank] += leaf.share
    weights = [
        np.resize(leaf.share / held[:rank], b_k.shape[1])  # a masked leaf has each component twice
        for rank, leaf, (b_k, _) in zip(ranks, layer.leaves, products, strict=True)
    ]
    if len(held) < layer.rank:
        products.append((layer.b[:, len(held) :], layer.a[len(held) :]))
        weights.append(np.ones(layer.rank - len(held)))
    b, a = stacked_mean(layer.b, layer.a, products, weights, server_lr=layer.server_lr)
    new = balanced_factors(b, a, rank=layer.rank, tolerance=EMPTY_COMPONENT, rng=layer.rng, values_in_b=True)
    return Combined(b=new.b, a=new.a, energy=new.energy, dropped=new.dropped)

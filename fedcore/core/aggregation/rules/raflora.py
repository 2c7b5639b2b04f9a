"""raFLoRA: FlexLoRA with every rank component averaged over the devices that hold it alone.

    G' = sum_j sum_{k: r_k > j} p_kj B_k[:, j] A_k[j]        p_kj = w_k / sum_{i: r_i > j} w_i

Wu et al., "Preventing rank collapse in federated low-rank adaptation with client heterogeneity", 2026, arXiv
2602.13486. The paper splits the components at the ranks in use and gives each part the weights of its holders. Holders
change only at these ranks, so weights component by component are the same. The mean is decomposed and handed out as in
FlexLoRA. A component that no device of a round held stays as it was handed out. A server_lr of 1 is the paper's.
"""

import numpy as np
from numpy.typing import NDArray

from fedcore.core.aggregation.bundle.balanced import balanced_factors
from fedcore.core.aggregation.bundle.bundling import Bundling, Combined, Layer
from fedcore.core.aggregation.bundle.returned import returned_product, stacked_mean
from fedcore.core.aggregation.rules.delta_stack import EMPTY_COMPONENT


def raflora(*, server_lr: float = 1.0, seed: int = 0) -> Bundling:
    """Return raFLoRA's aggregator."""
    return Bundling(name="raflora", rule=mean_over_holders, has_dense_form=False, server_lr=server_lr, seed=seed)


def mean_over_holders(layer: Layer) -> Combined:
    """Return the decomposition of the products' mean, each component's weights those of its holders."""
    products = [returned_product(layer.b, layer.a, update) for update in layer.updates]
    ranks = [update.da.shape[0] for update in layer.updates]
    holders: NDArray[np.float64] = np.zeros(max(ranks))  # share of the devices that hold each component
    for rank, update in zip(ranks, layer.updates, strict=True):
        holders[:rank] += update.share
    weights = [
        np.resize(update.share / holders[:rank], b_k.shape[1])  # a masked update has each component twice
        for rank, update, (b_k, _) in zip(ranks, layer.updates, products, strict=True)
    ]
    if len(holders) < layer.rank:
        products.append((layer.b[:, len(holders) :], layer.a[len(holders) :]))
        weights.append(np.ones(layer.rank - len(holders)))
    b, a = stacked_mean(layer.b, layer.a, products, weights, server_lr=layer.server_lr)
    new = balanced_factors(b, a, rank=layer.rank, tolerance=EMPTY_COMPONENT, rng=layer.rng, values_in_b=True)
    return Combined(b=new.b, a=new.a, energy=new.energy, dropped=new.dropped)

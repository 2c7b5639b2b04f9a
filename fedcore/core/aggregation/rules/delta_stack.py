"""Exact weighted mean of the products' increments, for mixed ranks and masks; redistributed by SVD.

    G' = G + eta * sum_k p_k (B1_k A1_k - B0_k A0_k)        p_k = w_k / sum w

kept as balanced factors of the server rank. Stacking is FLoRA's (Wang et al. 2024, arXiv 2409.05976); the SVD is
FlexLoRA's (Bai et al. 2024, arXiv 2402.11505). The one-sided masks are this project's, and so are *increments* of the
product, which leave unchanged what a device did not hold. The published FlexLoRA is in
`fedcore.core.aggregation.rules.flexlora`.
"""

from fedcore.core.aggregation.bundle.balanced import balanced_factors, balanced_matrix
from fedcore.core.aggregation.bundle.bundling import Bundling, Combined, Layer
from fedcore.core.aggregation.bundle.factor_stack import stacked_factors

SERVER_RANK_FACTOR = 4  # room for components that devices of small rank cannot hold
EMPTY_COMPONENT = 1e-6  # of the largest singular value: below it float32 factors hold rounding, not learning


def delta_stack(*, server_lr: float = 1.0, seed: int = 0) -> Bundling:
    """Return the bundling aggregator over increments of the product."""
    return Bundling(
        name="delta-stack",
        rule=redistributed,
        has_dense_form=True,
        rank_factor=SERVER_RANK_FACTOR,
        server_lr=server_lr,
        seed=seed,
    )


def redistributed(layer: Layer) -> Combined:
    """Return the decomposition of the layer's next product."""
    if layer.mean_increment is not None:
        product = layer.mean_increment
        product *= layer.server_lr
        product += layer.b @ layer.a
        new = balanced_matrix(product, rank=layer.rank, tolerance=EMPTY_COMPONENT, rng=layer.rng)
    else:
        b, a = stacked_factors(layer.b, layer.a, layer.updates, side=layer.side, server_lr=layer.server_lr)
        new = balanced_factors(b, a, rank=layer.rank, tolerance=EMPTY_COMPONENT, rng=layer.rng)
    return Combined(b=new.b, a=new.a, energy=new.energy, dropped=new.dropped)

"""Exact weighted mean of the products' increments, for mixed ranks and masks; redistributed by SVD.

    G' = G + eta * sum_k p_k (B1_k A1_k - B0_k A0_k)        p_k = w_k / sum w

held as balanced factors of the server rank. Stacking is FLoRA's (Wang et al. 2024, arXiv 2409.05976), SVD hand-out
FlexLoRA's (Bai et al. 2024, arXiv 2402.11505); taking *increments* of the product, which keeps what a device did not
hold, and the one-sided masks are this project's. FlexLoRA as published stands in
`fedcore.core.aggregation.rules.flexlora`.
"""

from fedcore.core.aggregation.bundle.balanced import balanced_factors, balanced_matrix
from fedcore.core.aggregation.bundle.bundling import Bundling, Combined, Layer
from fedcore.core.aggregation.bundle.factor_stack import stacked_factors

SERVER_RANK_FACTOR = 4  # room for what devices of small rank cannot hold
EMPTY_COMPONENT = 1e-6  # of the largest singular value: below it float32 factors hold rounding, not learning


def delta_stack(*, server_lr: float = 1.0, seed: int = 0) -> Bundling:
    """Return the bundling aggregator over increments of the product."""
    return Bundling(
        name="delta-stack",
        rule=redistributed,
        settles=True,
        rank_factor=SERVER_RANK_FACTOR,
        server_lr=server_lr,
        seed=seed,
    )


def redistributed(layer: Layer) -> Combined:
    """Return the decomposition of the layer's next product."""
    if layer.moved is not None:
        product = layer.moved
        product *= layer.server_lr
        product += layer.b @ layer.a
        new = balanced_matrix(product, rank=layer.rank, tolerance=EMPTY_COMPONENT, rng=layer.rng)
    else:
        b, a = stacked_factors(layer.b, layer.a, layer.leaves, side=layer.side, server_lr=layer.server_lr)
        new = balanced_factors(b, a, rank=layer.rank, tolerance=EMPTY_COMPONENT, rng=layer.rng)
    return Combined(b=new.b, a=new.a, energy=new.energy, dropped=new.dropped)

"""FlexLoRA: mean of the returned products, decomposed again for every rank.

    G' = sum_k p_k s_k B_k A_k        p_k = w_k / sum w        U S V^T = svd(G')
    a device of rank r is handed U_r S_r and V_r^T

Bai et al., "Federated fine-tuning of large language models under heterogeneous tasks and client resources", NeurIPS
2024, arXiv 2402.11505. B_k and A_k are what devices returned, s_k = alpha / r_k is in B_k already (one constant here).
The server keeps the largest rank of any device, and B holds the singular values.

Components above a device's rank count as zero with that device's full weight, so energy above the smallest rank fades
from round to round (raFLoRA, arXiv 2602.13486). This belongs to the published method; `delta_stack` and `raflora` avoid
it. A server_lr of 1 is the paper's; another one moves that share of the way from the product handed out.
"""

from fedcore.core.aggregation.bundle.balanced import balanced_factors
from fedcore.core.aggregation.bundle.bundling import Bundling, Combined, Layer
from fedcore.core.aggregation.bundle.returned import returned_product, stacked_mean
from fedcore.core.aggregation.rules.delta_stack import EMPTY_COMPONENT


def flexlora(*, server_lr: float = 1.0, seed: int = 0) -> Bundling:
    """Return FlexLoRA's aggregator."""
    return Bundling(name="flexlora", rule=mean_of_products, has_dense_form=False, server_lr=server_lr, seed=seed)


def mean_of_products(layer: Layer) -> Combined:
    """Return the decomposition of the weighted mean of the returned products."""
    products = [returned_product(layer.b, layer.a, update) for update in layer.updates]
    shares = [update.share for update in layer.updates]
    b, a = stacked_mean(layer.b, layer.a, products, shares, server_lr=layer.server_lr)
    new = balanced_factors(b, a, rank=layer.rank, tolerance=EMPTY_COMPONENT, rng=layer.rng, values_in_b=True)
    return Combined(b=new.b, a=new.a, energy=new.energy, dropped=new.dropped)

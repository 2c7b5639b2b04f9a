"""FedEx-LoRA: averaged factors; what their product misses is added to the frozen base weights.

    B' = sum_k p_k B_k    A' = sum_k p_k A_k    W' = W + sum_k p_k s_k B_k A_k - s B' A'

Singhal, Ponkshe, Vepakomma, "FedEx-LoRA: exact aggregation for federated and efficient fine-tuning of foundation
models", ACL 2025, arXiv 2410.09432. W' + s B' A' is the exact mean of what devices returned; the paper averages with
equal weights, here numbers of examples weigh. W is the base shift (`fedcore.core.model.base_shift`): the residual comes
down as one stack of rank sum r_k + R. The paper has equal ranks; here a device of a smaller rank counts with zeros
in the components that it lacks. s = alpha / r is in B already. A server_lr of 1 is the paper's; another one goes that
share of the way, also exactly.
"""

import numpy as np

from fedcore.core.aggregation.bundle.bundling import Bundling, Combined, Layer
from fedcore.core.aggregation.bundle.returned import returned_factors, returned_product, stacked_mean


def fedex_lora(*, server_lr: float = 1.0, seed: int = 0) -> Bundling:
    """Return FedEx-LoRA's aggregator."""
    return Bundling(
        name="fedex-lora",
        rule=mean_and_residual,
        has_dense_form=False,
        shifts_base=True,
        server_lr=server_lr,
        seed=seed,
    )


def mean_and_residual(layer: Layer) -> Combined:
    """Return the mean of the factors; the base's step is the mean of the products less the product of the means."""
    returned = [returned_factors(layer.b, layer.a, update) for update in layer.updates]
    shares = [update.share for update in layer.updates]
    next_b, next_a = (1 - layer.server_lr) * layer.b, (1 - layer.server_lr) * layer.a
    for (b_k, a_k), share in zip(returned, shares, strict=True):
        next_b[:, : b_k.shape[1]] += layer.server_lr * share * b_k
        next_a[: a_k.shape[0]] += layer.server_lr * share * a_k
    products = [returned_product(layer.b, layer.a, update) for update in layer.updates]
    left, right = stacked_mean(layer.b, layer.a, products, shares, server_lr=layer.server_lr)
    step = np.concatenate([left, -next_b], axis=1), np.concatenate([right, next_a], axis=0)
    return Combined(b=next_b, a=next_a, step=step)

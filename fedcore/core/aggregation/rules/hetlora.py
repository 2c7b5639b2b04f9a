"""HetLoRA: zero-padded factors, averaged with weights that follow the norm of each device's product.

    B' = sum_k q_k pad(B_k)    A' = sum_k q_k pad(A_k)    q_k = ||S_k||_F / sum_i ||S_i||_F    S_k = B_k A_k

layer by layer; a device of rank r is handed the first r components (truncation). Cho et al., "Heterogeneous LoRA for
federated fine-tuning of on-device foundation models", EMNLP 2024, arXiv 2401.06432. B_k and A_k are what devices
returned. Numbers of examples weigh the task head only, and a layer of which all S_k are zero, before any device
learned.

Left out: the paper's self-pruning of ranks on devices. It needs a penalty in local training and ranks that devices
choose, and neither is the aggregator's; here device speed decides the ranks
(`fedcore.strategies.methods.hetlora`). A server_lr of 1 is the paper's; another one moves that share of the way from
what was handed out.
"""

import numpy as np

from fedcore.core.aggregation.bundle.bundling import Bundling, Combined, Layer
from fedcore.core.aggregation.bundle.returned import Wide, returned_factors


def hetlora(*, server_lr: float = 1.0, seed: int = 0) -> Bundling:
    """Return HetLoRA's aggregator."""
    return Bundling(name="hetlora", rule=norm_weighted_mean, has_dense_form=False, server_lr=server_lr, seed=seed)


def norm_weighted_mean(layer: Layer) -> Combined:
    """Return the mean of the zero-padded factors under weights that follow the products' norms."""
    returned = [returned_factors(layer.b, layer.a, update) for update in layer.updates]
    norms = [product_norm(b, a) for b, a in returned]
    total = sum(norms)
    weights = [norm / total for norm in norms] if total > 0 else [update.share for update in layer.updates]
    next_b, next_a = (1 - layer.server_lr) * layer.b, (1 - layer.server_lr) * layer.a
    for (b, a), weight in zip(returned, weights, strict=True):
        next_b[:, : b.shape[1]] += layer.server_lr * weight * b
        next_a[: a.shape[0]] += layer.server_lr * weight * a
    return Combined(b=next_b, a=next_a)


def product_norm(b: Wide, a: Wide) -> float:
    """Return the Frobenius norm of b @ a from the small Gram matrices of its factors."""
    return float(np.sqrt(max(0.0, float(np.sum((b.T @ b) * (a @ a.T))))))

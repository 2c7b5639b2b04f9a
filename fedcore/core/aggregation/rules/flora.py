"""FLoRA: stacked factors, added to the frozen base weights; devices begin every round with fresh ones.

    W' = W + sum_k p_k s_k B_k A_k = W + [B_1 ... B_K] [p_1 A_1; ...; p_K A_K]        A random, B = 0

Wang et al., "FLoRA: federated fine-tuning large language models with heterogeneous low-rank adaptations", NeurIPS 2024,
arXiv 2409.05976. Exact for any ranks. B_k and A_k are what devices returned, p_k their shares, s_k = alpha / r_k is in
B_k already. W is the base shift (`fedcore.core.model.base_shift`), and a round costs every device the download of the
stack, rank sum r_k, as in the paper. The paper draws the fresh factors on the device; here all devices download the
same ones, 1 / K of the stack more. A server_lr of 1 is the paper's; another one scales what is added.
"""

import numpy as np

from fedcore.core.aggregation.bundle.bundling import Bundling, Combined, Layer
from fedcore.core.aggregation.bundle.returned import returned_product


def flora(*, server_lr: float = 1.0, seed: int = 0) -> Bundling:
    """Return FLoRA's aggregator; `seed` draws the fresh factors."""
    return Bundling(
        name="flora",
        rule=stacked_into_base,
        has_dense_form=False,
        shifts_base=True,
        server_lr=server_lr,
        seed=seed,
    )


def stacked_into_base(layer: Layer) -> Combined:
    """Return fresh factors, with the mean of the returned products as the step of the base; B = 0 was handed out."""
    products = [returned_product(layer.b, layer.a, update) for update in layer.updates]
    lefts = [layer.server_lr * update.share * b_k for update, (b_k, _) in zip(layer.updates, products, strict=True)]
    bound = 1 / np.sqrt(layer.a.shape[1])
    return Combined(
        b=np.zeros_like(layer.b),
        a=layer.rng.uniform(-bound, bound, layer.a.shape),
        step=(np.concatenate(lefts, axis=1), np.concatenate([a_k for _, a_k in products], axis=0)),
    )

"""`fedcore` with a device whose training runs out of memory unless enough of the model is cut."""

from typing import Any

import torch

from fedcore.client.training import trainer

LEAST = 0.3  # sparsity that fits


def tight(real: Any) -> Any:
    """Return `real` training, which fails as on a small card where the model is larger than what fits."""

    def train(classifier: Any, *arguments: Any, **named: Any) -> Any:
        if classifier.keep_set.sparsity(classifier.geometry) < LEAST:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(classifier, *arguments, **named)

    return train


if __name__ == "__main__":
    from fedcore.cli.main import run

    vars(trainer)["train"] = tight(trainer.train)
    run()

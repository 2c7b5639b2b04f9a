"""What local training minimises: cross-entropy, with a label shift added to the logits where one is given."""

import numpy as np
import torch
from numpy.typing import NDArray


class Objective:
    """Mean cross-entropy of logits (rows, labels) plus a constant shift (labels,); see fedcore.label_prior."""

    def __init__(self, prior_shift: NDArray[np.float32] | None = None) -> None:
        self._shift = None if prior_shift is None else torch.from_numpy(prior_shift)

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the scalar loss, float32."""
        shifted = logits if self._shift is None else logits + self._shift.to(logits.device)
        return torch.nn.functional.cross_entropy(shifted, labels)


PLAIN = Objective()

"""Reading the adapter that was handed out, and letting go of it tensor by tensor where the caller allows that."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fedcore.core.model.adapter import Tensors


def taken(adapter: Tensors, *, consume: bool) -> Callable[[str], NDArray[np.float32]]:
    """Return how to read a tensor of `adapter` once: with `consume`, out of the dict `adapter`, which is emptied.

    Raises ValueError where it is to be consumed and is no dict.
    """
    if not consume:
        return adapter.__getitem__
    if not isinstance(adapter, dict):
        raise ValueError(f"an adapter to consume must be a dict, got {type(adapter).__name__}")
    return adapter.pop

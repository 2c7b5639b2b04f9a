"""Which rows a model got right, as a short text: paired comparisons need every row, not the mean."""

import numpy as np
from numpy.typing import NDArray

Right = NDArray[np.bool_]  # (rows,)


def packed(right: Right) -> str:
    """Return `right` as hexadecimal digits, eight rows to two of them."""
    return np.packbits(right).tobytes().hex()


def unpacked(text: str, rows: int) -> Right:
    """Return what `packed` was given for so many rows."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), dtype=np.uint8), count=rows).astype(np.bool_)

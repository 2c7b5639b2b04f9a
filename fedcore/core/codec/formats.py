"""The interface of a number format on the wire: float32 values to little-endian arrays of known sizes, and back."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Layout = tuple[tuple[str, int], ...]  # (numpy dtype, number of values) of every stored array, in order


class Format(Protocol):
    """A number format; `fedcore.core.codec.grammar` holds the table of them.

    `fedcore.core.codec.packed` calls it for the values of a tensor that are sent.

    >>> from fedcore.core.codec.grammar import parse_chain
    >>> int8 = parse_chain("int8").format
    >>> values = np.linspace(-1, 1, 5, dtype=np.float32)
    >>> arrays = int8.store(values)
    >>> [(str(array.dtype), array.size) for array in arrays]  # the integers, and a scale for every block
    [('int8', 5), ('float32', 1)]
    >>> bool(np.abs(int8.load(arrays, 5) - values).max() < 0.01)
    True
    """

    @property
    def word(self) -> str:
        """Its name in a codec, with its parameter; `parse_format` reads it back."""
        ...

    @property
    def lossless(self) -> bool:
        """Whether every bit of every float32 comes back."""
        ...

    def layout(self, count: int) -> Layout:
        """Return the layout that `store` gives `count` values; the decoder computes it and trusts no stored size."""
        ...

    def store(self, values: Floats) -> tuple[NDArray[Any], ...]:
        """Return the arrays of 1-d float32 `values`; equal values give equal bytes."""
        ...

    def load(self, arrays: Sequence[NDArray[Any]], count: int) -> Floats:
        """Return the `count` values, 1-d, behind arrays of `layout(count)`, whatever bits they hold."""
        ...


def layout_bytes(layout: Layout) -> int:
    """Return the bytes of arrays of this layout."""
    return sum(np.dtype(dtype).itemsize * count for dtype, count in layout)

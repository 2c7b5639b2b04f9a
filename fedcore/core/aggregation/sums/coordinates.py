"""Where a device's factors lie in the full coordinates of one linear layer."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcore.core.model.adapter import AdapterSpec
from fedcore.core.model.keep_set import KeepSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Kept rows of B or kept columns of A, ascending; None where all are kept. Never both: masks are one-sided."""

    b_rows: NDArray[np.int64] | None = None
    a_columns: NDArray[np.int64] | None = None


def placement(spec: AdapterSpec, keep_set: KeepSet, layer: int, module: str) -> Placement:
    """Return where a holder of `keep_set` has its rows or columns of `module` in `layer`."""
    cut = spec.geometry.cut(module)
    kept = keep_set.indices(spec.geometry, layer, module)
    if cut is None or kept is None:
        return Placement()
    out, into = spec.geometry.shape(module)
    if len(kept) == (out if cut.side == "out" else into):
        return Placement()
    return Placement(b_rows=kept) if cut.side == "out" else Placement(a_columns=kept)

"""Label skew: what a device subtracts from its loss so that it does not teach everybody its own label shares.

A device that holds 95 % of one label can lower its loss by shifting every logit towards it, and under an adaptive
optimiser that shift is as large as anybody's lesson. With log p_local(y) - log p_fleet(y) added to the logits
during training (logit adjustment: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, arXiv 2007.07314,
eq. 10; as calibration under label skew in federated learning: Zhang et al., ICML 2022, arXiv 2209.00189), the shift is
already there, and what is left to learn is what tells the labels apart. On a device with the fleet's shares it is zero.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedcore.errors import DataError


def prior_shift(local: Sequence[int], fleet: Sequence[int]) -> NDArray[np.float32]:
    """Return log p_local - log p_fleet per label, (labels,) float32, from counts of training rows.

    Every count is raised by one (Laplace), so a label that a device does not hold gets a finite shift. Raises
    DataError where the two differ in length or a count is negative.
    """
    if len(local) != len(fleet) or min((*local, *fleet), default=0) < 0:
        raise DataError(f"label counts {list(local)} and {list(fleet)}: expected as many, each 0 or more")
    mine, theirs = np.asarray(local, dtype=np.float64) + 1, np.asarray(fleet, dtype=np.float64) + 1
    shift: NDArray[np.float32] = (np.log(mine / mine.sum()) - np.log(theirs / theirs.sum())).astype(np.float32)
    return shift

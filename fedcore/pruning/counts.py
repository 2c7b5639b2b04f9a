"""From a sparsity to how many head units and channels every layer keeps.

All sparsities share one staircase of (head units, channels) on which both counts only fall: that is what makes
keep-sets of one removal order nest, whatever two sparsities they belong to.
"""

import math

from fedcore.errors import ConfigError
from fedcore.geometry import Geometry

CHANNEL_MULTIPLE = 8  # vectorised matrix kernels like widths that divide by 8
WIDE_FFN = 256  # narrower FFNs are cut by single channels


def keep_counts(geometry: Geometry, sparsity: float) -> tuple[int, int]:
    """Return (head units, channels) that every layer keeps at `sparsity` in [0, 1).

    Head units follow (1 - sparsity) x head units; channels make up the rest, so that the realised sparsity is
    the nearest one that the staircase has. A head unit is large, and where one leaves, channels may not come back
    in its place: the staircase then has a gap, as wide as a head unit's share of a layer. A sparsity inside a
    gap gets its nearer end, so it is missed by at most half a gap plus half a channel step (MiniLM: 1.4 % + 0.2 %;
    3 key/value heads: 4.2 % + 0.2 %). At least one unit and one channel step stay, so sparsities close to 1 are
    realised lower. Raises ConfigError outside [0, 1).
    """
    if not 0.0 <= sparsity < 1.0:
        raise ConfigError(f"sparsity must be in [0, 1), got {sparsity}")
    units = geometry.head_units
    unit = geometry.head_unit_params / geometry.channel_params  # size of a head unit, in channels
    dense = units * unit + geometry.ffn
    kept = (1.0 - sparsity) * dense
    heads = max(1, min(units, math.floor((1.0 - sparsity) * units + 0.5)))
    channels = kept - heads * unit
    if heads < units:
        tie = (heads + 0.5) / units * dense  # where one unit more was as near
        held = tie - (heads + 1) * unit  # channels kept there, and on all of the gap that follows
        if kept > tie - unit / 2:
            return heads + 1, _whole(held, geometry.ffn)
        channels = min(channels, held)
    return heads, _whole(channels, geometry.ffn)


def _whole(channels: float, ffn: int) -> int:
    """Round to a channel count that may be kept; non-decreasing in `channels`."""
    step = CHANNEL_MULTIPLE if ffn >= WIDE_FFN else 1
    widest = ffn - ffn % step
    if channels >= (widest + ffn) / 2:
        return ffn
    return max(step, min(widest, step * math.floor(channels / step + 0.5)))

"""Which counts realise a sparsity where more than heads and channels can go, or less: by measured benefit.

A path begins with the dense model and takes one move after the other:

    h  one head unit of every layer that is left
    c  CHANNEL_MULTIPLE FFN channels of every layer that is left (single ones in a narrow FFN)
    l  one whole layer

The next move is the one with the least estimated harm for each parameter that it removes. The harm of a whole layer is
its influence on the hidden state (fedcore.core.pruning.depth); a group of a layer has a share of it: that of its matrix
kind by parameters, times the group's share of the scores of its kind in this layer. So a layer of groups that are all
alike costs as much, for each parameter, whichever way it is removed; where scores differ, unimportant groups go first,
until what is left of a layer of little influence is cheaper.

Moves that some device has made are part of the state and never change, so the counts of a sparsity only fall over the
rounds and keep-sets of one order nest.
"""

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedcore.core.errors import ConfigError
from fedcore.core.model.geometry import Counts, Geometry
from fedcore.core.pruning.counts import CHANNEL_MULTIPLE, WIDE_FFN
from fedcore.core.pruning.kinds import CHANNELS, HEADS, LAYERS

Matrix = NDArray[np.float64]

MOVES = {HEADS: "h", CHANNELS: "c", LAYERS: "l"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """Moves from the dense model on, and the counts before the first and after each of them, ever sparser."""

    moves: str
    counts: tuple[Counts, ...]
    sparsities: tuple[float, ...]  # ascending

    def at(self, sparsity: float) -> Counts:
        """Return the counts whose sparsity is nearest, the denser ones of a tie; ConfigError outside [0, 1)."""
        if not 0.0 <= sparsity < 1.0:
            raise ConfigError(f"sparsity must be in [0, 1), got {sparsity}")
        above = bisect.bisect_left(self.sparsities, sparsity)
        if above == 0 or above == len(self.sparsities):
            return self.counts[min(above, len(self.counts) - 1)]
        nearer_below = sparsity - self.sparsities[above - 1] <= self.sparsities[above] - sparsity
        return self.counts[above - 1 if nearer_below else above]

    def moves_to(self, removed: Counts) -> str:
        """Return the moves up to the first counts that lack at least `removed`; all of them where none do."""
        dense = self.counts[0]
        for end, kept in enumerate(self.counts):
            gone = dense.heads - kept.heads, dense.channels - kept.channels, kept.removed_layers
            if all(have >= want for have, want in zip(gone, removed, strict=True)):
                return self.moves[:end]
        return self.moves


@dataclass(frozen=True, slots=True, kw_only=True)
class Harms:
    """What a path is chosen by. Scores lie in each layer's removal order and sum up to 1 over a layer."""

    geometry: Geometry
    head_shares: Matrix  # (layers, head units)
    channel_shares: Matrix  # (layers, channels)
    influences: NDArray[np.float64]  # (layers,)
    layer_order: tuple[int, ...]  # all layers, first removed first
    remove: tuple[str, ...]


def make_path(harms: Harms, fixed: str) -> Path:
    """Return the whole path that begins with the `fixed` moves."""
    walk = _Walk(harms)
    counts, moves = [harms.geometry.dense], []
    for move in walk.moves(fixed):
        moves.append(move)
        counts.append(walk.kept)
    sparsities = tuple(harms.geometry.sparsity(kept) for kept in counts)
    return Path(moves="".join(moves), counts=tuple(counts), sparsities=sparsities)


@dataclass(slots=True)
class _Walk:
    """The model on its way from dense to nearly nothing."""

    harms: Harms
    heads: int = 0  # that are gone from every layer
    channels: int = 0
    layers: int = 0
    _left: list[int] = field(default_factory=list)  # layers that are left

    def __post_init__(self) -> None:
        self._left = list(range(self.harms.geometry.layers))

    @property
    def kept(self) -> Counts:
        geometry = self.harms.geometry
        return Counts(geometry.head_units - self.heads, geometry.ffn - self.channels, self.layers)

    def moves(self, fixed: str) -> Iterator[str]:
        """Make the `fixed` moves, then the least harmful ones while there are any, and yield each."""
        for move in fixed:
            self._make(move)
            yield move
        while costs := dict(self._costs()):
            best = min(costs, key=lambda move: (costs[move], move))
            self._make(best)
            yield best

    def _make(self, move: str) -> None:
        if move == "h":
            self.heads += 1
        elif move == "c":
            self.channels += self._step
        else:
            self._left.remove(self.harms.layer_order[self.layers])
            self.layers += 1

    @property
    def _step(self) -> int:
        step = CHANNEL_MULTIPLE if self.harms.geometry.ffn >= WIDE_FFN else 1
        return (self.harms.geometry.ffn - self.channels) % step or step

    def _costs(self) -> Iterator[tuple[str, float]]:
        """Yield every possible move with its harm for each parameter."""
        harms, geometry, kept = self.harms, self.harms.geometry, self.kept
        parts = geometry.head_units * geometry.head_unit_params, geometry.ffn * geometry.channel_params
        of_heads, of_channels = (part / geometry.layer_params for part in parts)
        weight = harms.influences[self._left]  # (layers left,)
        if HEADS in harms.remove and kept.heads > 1:
            harm = of_heads * float(weight @ harms.head_shares[self._left, self.heads])
            yield "h", harm / (len(self._left) * geometry.head_unit_params)
        step = self._step
        if CHANNELS in harms.remove and kept.channels > step:
            shares = harms.channel_shares[self._left, self.channels : self.channels + step].sum(axis=1)
            yield "c", of_channels * float(weight @ shares) / (len(self._left) * step * geometry.channel_params)
        if LAYERS in harms.remove and len(self._left) > 1:
            layer = harms.layer_order[self.layers]
            shares_left = (
                of_heads * harms.head_shares[layer, self.heads :].sum()
                + of_channels * harms.channel_shares[layer, self.channels :].sum()
            )
            size = kept.heads * geometry.head_unit_params + kept.channels * geometry.channel_params
            yield "l", float(harms.influences[layer] * shares_left) / size

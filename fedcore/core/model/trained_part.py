"""The part of the adapter that a device trains in a round; the rest is frozen and not sent.

A frozen tensor has no gradient and no optimiser state, its increment is exactly zero, and an update leaves it out. The
receiver of an update knows the frozen tensors from the assignment, and counts them as zero with the full weight.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedcore.core.errors import ConfigError
from fedcore.core.text_enum import TextEnum

V = TypeVar("V")


class Factors(TextEnum):
    """The factors of a LoRA layer that train."""

    BOTH = "both"
    A = "a"
    B = "b"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedPart:
    """The factors that train, in the layers from `first_layer` (counted from 0) to the output; the head always trains.

    A `first_layer` beyond the last layer trains the head alone. Raises ConfigError for one below 0.
    """

    factors: Factors = Factors.BOTH
    first_layer: int = 0

    def __post_init__(self) -> None:
        if self.first_layer < 0:
            raise ConfigError(f"first trained layer must be 0 or more, got {self.first_layer}")

    @property
    def everything(self) -> bool:
        """Whether no tensor is frozen."""
        return self.factors is Factors.BOTH and self.first_layer == 0

    def layer(self, index: int) -> bool:
        """Whether this layer trains."""
        return index >= self.first_layer

    def has(self, name: str) -> bool:
        """Whether the tensor of this canonical name trains."""
        if not name.startswith("layers."):
            return True
        _, layer, _, factor = name.split(".")
        return self.layer(int(layer)) and self.factors in (Factors.BOTH, factor.lower())

    def of(self, tensors: Mapping[str, V]) -> Mapping[str, V]:
        """Return the tensors that train, by canonical name; the same mapping where all train."""
        if self.everything:
            return tensors
        return {name: tensors[name] for name in tensors if self.has(name)}


EVERYTHING = TrainedPart()


class ZeroFilled(Mapping[str, NDArray[np.float32]]):
    """The `present` tensors, and zeros for all other names of `shapes`: read-only views that take no memory."""

    def __init__(self, present: Mapping[str, NDArray[np.float32]], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.present = present
        self._shapes = shapes
        self._absent = frozenset(shapes) - set(present)

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """Return a tensor; zeros where it is not present."""
        if name in self._absent:
            return np.broadcast_to(np.float32(0.0), self._shapes[name])
        return self.present[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

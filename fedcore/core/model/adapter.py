"""The global adapter: LoRA factors of every prunable linear layer, and the task head, in full coordinates.

Tensors are a flat mapping of canonical names to float32 arrays:

    layers.{i}.{module}.A   (rank, in)    module is one of q, k, v, o, gate, up, down
    layers.{i}.{module}.B   (out, rank)   the LoRA scale s = alpha / r is folded in here
    head.{name}             any shape     the task head, never pruned, trained dense

Because s is one constant for every rank, the first r rows of A and columns of B are a valid adapter of
rank r: a device of rank r holds a prefix. Pruning masks are one-sided: they cut rows of B or columns of A.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from fedcore.core.errors import ConfigError, ModelError
from fedcore.core.model.geometry import Counts, Geometry
from fedcore.core.model.keep_set import KeepSet

Tensors = Mapping[str, NDArray[np.float32]]

INITIAL_HEAD_STD = 0.02

_CACHED = 64  # sets of shapes: all updates of a round are checked against a few of them


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSpec:
    """The tensors of the global adapter. `rank` is the largest rank that a device may hold.

    Raises ConfigError for a rank below 1, for a target that is no module of the geometry, and for no target.
    """

    geometry: Geometry
    rank: int
    targets: tuple[str, ...]
    head: tuple[tuple[str, tuple[int, ...]], ...]  # (name with its "head." prefix, shape), sorted

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"adapter rank must be at least 1, got {self.rank}")
        unknown = sorted(set(self.targets) - set(self.geometry.modules))
        if unknown or not self.targets:
            raise ConfigError(
                f"training.targets: expected some of {', '.join(self.geometry.modules)}; "
                f"got {', '.join(unknown) or 'none'}"
            )

    def modules(self, keep_set: KeepSet | None = None) -> Iterator[tuple[int, str]]:
        """Yield (layer, module) of every adapted linear layer that `keep_set` (None: all) has, in canonical order."""
        for layer in range(self.geometry.layers) if keep_set is None else keep_set.layers:
            for module in self.targets:
                yield layer, module

    def shapes(self, *, rank: int | None = None, keep_set: KeepSet | None = None) -> dict[str, tuple[int, ...]]:
        """Return the shapes on a device with `rank` and `keep_set` (default: all), by canonical name.

        A layer that the keep-set removes has no tensors. Raises ProtocolError where counts differ between layers.
        """
        return dict(_shapes(self, self.rank if rank is None else rank, *_held(self, keep_set)))

    def num_values(self, *, rank: int | None = None, keep_set: KeepSet | None = None) -> int:
        """Return the number of float values that a device with `rank` and `keep_set` uploads."""
        return _num_values(self, self.rank if rank is None else rank, *_held(self, keep_set))


def _held(spec: AdapterSpec, keep_set: KeepSet | None) -> tuple[Counts, tuple[int, ...]]:
    """Return what decides the shapes: the counts of every layer, and the layers."""
    if keep_set is None:
        return spec.geometry.dense, tuple(range(spec.geometry.layers))
    return keep_set.counts, keep_set.layers


@lru_cache(_CACHED)
def _shapes(spec: AdapterSpec, rank: int, kept: Counts, layers: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, module in itertools.product(layers, spec.targets):
        out, into = spec.geometry.shape(module, kept)
        shapes[f"layers.{layer}.{module}.A"] = (rank, into)
        shapes[f"layers.{layer}.{module}.B"] = (out, rank)
    return MappingProxyType(shapes | dict(spec.head))


@lru_cache(_CACHED)
def _num_values(spec: AdapterSpec, rank: int, kept: Counts, layers: tuple[int, ...]) -> int:
    return sum(math.prod(shape) for shape in _shapes(spec, rank, kept, layers).values())


def initial_adapter(
    spec: AdapterSpec, rng: np.random.Generator, head: Tensors | None = None
) -> dict[str, NDArray[np.float32]]:
    """Return A drawn from U(-1/sqrt(in), 1/sqrt(in)) (LoRA's Kaiming init), B = 0, and the head.

    The head's tensors are taken from `head` where given, else drawn from N(0, 0.02) for matrices and 0 for
    vectors. Raises ModelError where a given tensor has another shape than the spec's.
    """
    tensors: dict[str, NDArray[np.float32]] = {}
    for name, shape in spec.shapes().items():
        if head is not None and name in head:
            if head[name].shape != shape:
                raise ModelError(f"{name} of the checkpoint has shape {head[name].shape}, expected {shape}")
            tensors[name] = np.array(head[name], dtype=np.float32)
        elif name.endswith(".A"):
            bound = 1.0 / np.sqrt(shape[1])
            tensors[name] = rng.uniform(-bound, bound, shape).astype(np.float32)
        elif name.startswith("head.") and len(shape) > 1:
            tensors[name] = (rng.standard_normal(shape) * INITIAL_HEAD_STD).astype(np.float32)
        else:
            tensors[name] = np.zeros(shape, dtype=np.float32)
    return tensors


def tensor_reader(adapter: Tensors, *, consume: bool) -> Callable[[str], NDArray[np.float32]]:
    """Return a function that reads a tensor of `adapter`, once; with `consume` it also removes the tensor.

    Raises ValueError for a `consume` of an adapter that is no dict.
    """
    if not consume:
        return adapter.__getitem__
    if not isinstance(adapter, dict):
        raise ValueError(f"an adapter to consume must be a dict, got {type(adapter).__name__}")
    return adapter.pop


def restrict(
    spec: AdapterSpec, tensors: Tensors, *, rank: int, keep_set: KeepSet, within: KeepSet | None = None
) -> dict[str, NDArray[np.float32]]:
    """Return the part of the global adapter on a device with `rank` and `keep_set` (rank prefix, kept rows).

    `tensors` are in full coordinates, or in those of the keep-set `within`, a superset of `keep_set`.
    """
    part: dict[str, NDArray[np.float32]] = {name: tensors[name] for name, _ in spec.head}
    for layer, module in spec.modules(keep_set):
        key = f"layers.{layer}.{module}"
        a, b = tensors[f"{key}.A"][:rank], tensors[f"{key}.B"][:, :rank]  # (rank, in), (out, rank)
        cut = spec.geometry.cut(module)
        kept = keep_set.indices(spec.geometry, layer, module)
        around = None if within is None else within.indices(spec.geometry, layer, module)
        if cut is not None and kept is not None:
            if around is not None:
                kept = np.searchsorted(around, kept)
            a, b = (a, b[kept]) if cut.side == "out" else (a[:, kept], b)
        part[f"{key}.A"], part[f"{key}.B"] = np.ascontiguousarray(a), np.ascontiguousarray(b)
    return part


def rank_blocks(rank: int, device_ranks: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return the half-open rank ranges in which an adapter of `rank` travels: (0,2), (2,4), (4,8) for ranks 2, 4, 8.

    They end at the ranks that devices train at. A device fetches the blocks that begin below its rank, so it fetches no
    component that it does not use.
    """
    ends = sorted({0, rank} | {device_rank for device_rank in device_ranks if 0 < device_rank < rank})
    return tuple(itertools.pairwise(ends))

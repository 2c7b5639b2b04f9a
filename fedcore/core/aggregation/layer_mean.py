"""The factor mean of every layer over the devices that trained it: LEGEND's aggregation across LoRA depths.

    A_l' = A_l + eta * sum_k w_k E_k(dA_l,k) / sum_{k trains l} w_k          B likewise

Where every device trains every layer, this is `factor_mean`, bit for bit. The head, and what a device does not hold of
a layer that it trains, are treated as in `factor_mean`. A device without a layer does not train it. A layer that no
device trained keeps its bits. The sums are the integers of `factor_mean`, and each layer has its weight beside them:
any order, tree or retry gives the same bits.

Source: Liu et al., "Adaptive parameter-efficient federated fine-tuning on heterogeneous devices", 2024,
arXiv 2412.20004.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedcore.core.aggregation.factor_mean import FactorMean, FactorPartial, along_means
from fedcore.core.aggregation.sums.members import Members
from fedcore.core.aggregation.sums.partial_wire import Buffer, Manifest, count, unpack_partial
from fedcore.core.contract.protocols import AggregateReport
from fedcore.core.contract.update import Update
from fedcore.core.contract.update_stack import UpdateStack
from fedcore.core.errors import ProtocolError, UpdateRejected
from fedcore.core.model.adapter import AdapterSpec, Tensors

_WEIGHT_BYTES = 24  # of one layer's weight in the manifest, at most


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPartial:
    """The factors' sums, and for each layer the total weight of the devices that trained it."""

    factors: FactorPartial
    weights: tuple[int, ...]

    @property
    def members(self) -> Members:
        """The updates in the partial."""
        return self.factors.members


@dataclass(slots=True, kw_only=True)
class LayerMean:
    """Reducing aggregator over increments of the factors, with a weight per layer."""

    server_lr: float = 1.0
    name: str = "layer-mean"
    kind: Literal["reducing", "bundling"] = "reducing"
    shifts_base: bool = False
    _sums: FactorMean = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._sums = FactorMean(name=self.name)

    def server_rank(self, largest_rank: int) -> int:
        """Return `largest_rank`: coordinates persist, so no device can use more."""
        return self._sums.server_rank(largest_rank)

    def start(self, spec: AdapterSpec, adapter: Tensors | None = None) -> LayerPartial:
        """Return the empty partial; `adapter` is not needed."""
        return LayerPartial(factors=self._sums.start(spec), weights=(0,) * spec.geometry.layers)

    def check(self, partial: LayerPartial, update: Update) -> None:
        """Return at once: an update that `verify_update` accepts can be folded."""

    def fold(self, partial: LayerPartial, update: Update) -> LayerPartial:
        """Add one verified update; `partial` is consumed. Raises UpdateRejected as `FactorMean.fold` does."""
        factors = self._sums.fold(partial.factors, update)
        return LayerPartial(factors=factors, weights=_with(partial.weights, update, update.weight))

    def fold_stack(self, partial: LayerPartial, stack: UpdateStack) -> LayerPartial:
        """Add all of a verified stack, as folding its updates one by one would; `partial` is consumed."""
        factors = self._sums.fold_stack(partial.factors, stack)
        return LayerPartial(factors=factors, weights=_with(partial.weights, stack, sum(stack.weights)))

    def merge(self, left: LayerPartial, right: LayerPartial) -> LayerPartial:
        """Add `right` into `left`, consuming both; raises UpdateRejected naming shared keys."""
        factors = self._sums.merge(left.factors, right.factors)
        weights = tuple(map(sum, zip(left.weights, right.weights, strict=True)))
        return LayerPartial(factors=factors, weights=weights)

    def finish(
        self, partial: LayerPartial, adapter: Tensors, *, consume: bool = False
    ) -> tuple[dict[str, NDArray[np.float32]], AggregateReport]:
        """Return adapter + server_lr * the mean increment of each layer; memory as `FactorMean.finish` takes."""
        members = partial.members
        report = AggregateReport(weight=members.weight, updates=len(members.keys))
        weights = {name: _weight(name, partial.weights, members.weight) for name in partial.factors.spec.shapes()}
        return along_means(partial.factors, adapter, weights, server_lr=self.server_lr, consume=consume), report

    def pack(self, partial: LayerPartial) -> Iterator[Buffer]:
        """Yield the sums in the fewest bytes that hold them, then the members and the layers' weights."""
        return self._sums.pack(partial.factors, {"layers": list(partial.weights)})

    def unpack(self, buffer: Buffer, spec: AdapterSpec, adapter: Tensors | None = None) -> LayerPartial:
        """Return the partial in `buffer`; raises like `FactorMean.unpack`, and for an impossible weight."""
        factors = self._sums.unpack(buffer, spec)
        manifest, _ = unpack_partial(buffer, self.name)
        weights = _layer_weights(manifest, spec.geometry.layers, factors.members.weight)
        for sums in factors.received:
            for name in spec.shapes():
                sums.check(name, _weight(name, weights, factors.members.weight))
        return LayerPartial(factors=factors, weights=weights)

    def packed_bytes_bound(self, spec: AdapterSpec, devices: int) -> int:
        """Return the factors' bound and the layers' weights."""
        return self._sums.packed_bytes_bound(spec, devices) + _WEIGHT_BYTES * spec.geometry.layers


def _with(weights: tuple[int, ...], update: Update | UpdateStack, weight: int) -> tuple[int, ...]:
    trained = {layer for layer in update.keep_set.layers if update.trains.layer(layer)}
    return tuple(total + weight if layer in trained else total for layer, total in enumerate(weights))


def _weight(name: str, weights: tuple[int, ...], whole: int) -> int:
    return weights[int(name.split(".")[1])] if name.startswith("layers.") else whole


def _layer_weights(manifest: Manifest, layers: int, whole: int) -> tuple[int, ...]:
    """Return a manifest's weights, each at most that of all devices."""
    rows = manifest.get("layers")
    if not isinstance(rows, list) or len(rows) != layers:
        raise ProtocolError(f"partial's manifest: expected the weights of {layers} layers, got {str(rows)[:80]}")
    weights = tuple(count(row, "a layer's weight") for row in rows)
    if max(weights) > whole:
        raise UpdateRejected(f"partial: expected layers' weights of at most {whole}, got {weights}")
    return weights

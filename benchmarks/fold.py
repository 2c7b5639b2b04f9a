"""Folding alone: one thread from float32 updates to integer sums, to a partial on the wire, to the next adapter.

The baseline rounds every tensor with `rint`, looks up its rows anew and adds it by fancy indexing, as a first version
would (and did). Part of `python -m benchmarks.aggregate`.
"""

import multiprocessing
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Row
from fedcore.core.aggregation.factor_mean import FactorMean
from fedcore.core.aggregation.sums.placing import placement
from fedcore.core.contract.update import Update, verify_update
from fedcore.core.model.adapter import AdapterSpec
from fedcore.core.model.geometry import Geometry
from fedcore.core.model.keep_set import KeepSet

NAIVE = "rint, fancy indexing"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldCase:
    """A model, the ranks and sparsities devices take in turn, and whether devices of one sparsity share a keep-set."""

    model: str
    geometry: Geometry
    server_rank: int
    ranks: tuple[int, ...]
    sparsities: tuple[float, ...]
    devices: int
    personal: bool = False

    @property
    def spec(self) -> AdapterSpec:
        """The global adapter."""
        return AdapterSpec(geometry=self.geometry, rank=self.server_rank, targets=self.geometry.modules, head=())


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldTiming:
    """Seconds of each step, and bytes of the blob."""

    verify_s: float
    fold_s: float
    naive_s: float
    pack_s: float
    take_up_s: float
    finish_s: float
    blob_bytes: int


def measure_fold(case: FoldCase, repeats: int) -> Row:
    """Return one row: medians over `repeats`, our way and the naive one taking turns."""
    updates = make_updates(case, np.random.default_rng(0))
    megabytes = sum(value.nbytes for update in updates for value in update.tensors.values()) / 1e6
    timings = [_once(case.spec, updates) for _ in range(repeats)]

    def median(name: str) -> float:
        return float(statistics.median(getattr(timing, name) for timing in timings))

    blob_mb = timings[0].blob_bytes / 1e6
    ranks, cuts = "/".join(map(str, case.ranks)), "/".join(f"{100 * sparsity:.0f}" for sparsity in case.sparsities)
    kind = f"rank {ranks}, {cuts} % removed{', personal' if case.personal else ''}"
    return {
        "model": case.model,
        "clients": case.devices,
        "method": f"factor-mean: {kind}",
        "updates MB": round(megabytes, 1),
        "fold s": round(median("fold_s"), 4),
        "fold MB/s": round(megabytes / median("fold_s"), 1),
        "finish s": round(median("finish_s"), 4),
        "naive MB/s": round(megabytes / median("naive_s"), 1),
        "x naive": round(median("naive_s") / median("fold_s"), 2),
        "verify MB/s": round(megabytes / median("verify_s"), 1),
        "blob MB": round(blob_mb, 1),
        "pack MB/s": round(blob_mb / median("pack_s"), 1),
        "unpack + merge MB/s": round(blob_mb / median("take_up_s"), 1),
        "adapter MB": round(4 * case.spec.num_values() / 1e6, 1),
        "RSS growth MB": round(_rss_growth_mb(case), 1),
    }


def make_updates(case: FoldCase, rng: np.random.Generator) -> list[Update]:
    """Unverified updates of every rank at every sparsity in turn."""
    shared = [random_keep_set(case.geometry, sparsity, rng) for sparsity in case.sparsities]
    updates = []
    for index in range(case.devices):
        rank, which = case.ranks[index % len(case.ranks)], index // len(case.ranks) % len(shared)
        keep_set = random_keep_set(case.geometry, case.sparsities[which], rng) if case.personal else shared[which]
        _ = keep_set.blob_id  # known before an update arrives: the assignment named it
        shapes = case.spec.shapes(rank=rank, keep_set=keep_set)
        tensors = {name: 0.01 * rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
        updates.append(
            Update(device=f"d{index}", round=1, weight=10 + index, rank=rank, keep_set=keep_set, tensors=tensors)
        )
    return updates


def fold_naively(spec: AdapterSpec, updates: Sequence[Update]) -> dict[str, NDArray[np.int64]]:
    """Sum the same integers tensor by tensor, the plain way."""
    totals = {name: np.zeros(shape, dtype=np.int64) for name, shape in spec.shapes().items()}
    for update in updates:
        for layer, module in spec.modules():
            key, at = f"layers.{layer}.{module}", placement(spec, update.keep_set, layer, module)
            rows = slice(None) if at.b_rows is None else at.b_rows
            columns = slice(None) if at.a_columns is None else at.a_columns
            totals[f"{key}.A"][: update.rank][:, columns] += _rounded(update.tensors[f"{key}.A"], update.weight)
            totals[f"{key}.B"][:, : update.rank][rows] += _rounded(update.tensors[f"{key}.B"], update.weight)
    return totals


def _rounded(values: NDArray[np.float32], weight: int) -> NDArray[np.int64]:
    if not (values.max() < 64.0 and values.min() > -64.0):
        raise ValueError("a value is out of bounds")
    integers: NDArray[np.int64] = np.rint(values.astype(np.float64) * 2.0**33).astype(np.int64) * weight
    return integers


def _once(spec: AdapterSpec, updates: Sequence[Update]) -> FoldTiming:
    aggregator, times = FactorMean(), [time.perf_counter()]
    verified = [verify_update(update, spec) for update in updates]
    times.append(time.perf_counter())
    partial = aggregator.start(spec)
    for update in verified:
        partial = aggregator.fold(partial, update)
    times.append(time.perf_counter())
    blob_bytes = sum(memoryview(piece).nbytes for piece in aggregator.pack(partial))  # placing rank groups is in it
    times.append(time.perf_counter())
    blob = b"".join(aggregator.pack(partial))
    root = aggregator.fold(aggregator.start(spec), replace(verified[0], device="another", verified=True))
    adapter = {name: np.zeros(shape, dtype=np.float32) for name, shape in spec.shapes().items()}
    times.append(time.perf_counter())
    root = aggregator.merge(root, aggregator.unpack(blob, spec))
    times.append(time.perf_counter())
    aggregator.finish(root, adapter, consume=True)
    times.append(time.perf_counter())
    del root, partial, blob
    before = time.perf_counter()
    fold_naively(spec, updates)
    verify_s, fold_s, pack_s, _, take_up_s, finish_s = np.diff(times).tolist()
    return FoldTiming(
        verify_s=verify_s,
        fold_s=fold_s,
        naive_s=time.perf_counter() - before,
        pack_s=pack_s,
        take_up_s=take_up_s,
        finish_s=finish_s,
        blob_bytes=blob_bytes,
    )


def _rss_growth_mb(case: FoldCase) -> float:
    """Peak memory of holding the adapter, folding every device and finishing, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_grow, (case,))


def _grow(case: FoldCase) -> float:
    spec, aggregator = case.spec, FactorMean()
    kinds = len(case.ranks) * len(case.sparsities)  # one update of each; every device sends one of these again
    updates = make_updates(replace(case, devices=min(case.devices, kinds)), np.random.default_rng(0))
    before = _peak_rss_mb()
    adapter = {name: np.ones(shape, dtype=np.float32) for name, shape in spec.shapes().items()}
    partial = aggregator.start(spec)
    for index in range(case.devices):
        update = replace(updates[index % len(updates)], device=f"d{index}")
        partial = aggregator.fold(partial, verify_update(update, spec))
    aggregator.finish(partial, adapter, consume=True)
    return _peak_rss_mb() - before


def _peak_rss_mb() -> float:
    """This process's own peak; ru_maxrss would include the parent's at the time of the fork."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) * 1024 / 1e6


def random_keep_set(geometry: Geometry, sparsity: float, rng: np.random.Generator) -> KeepSet:
    """Return a keep-set of groups drawn at random, layer by layer."""

    def some(total: int) -> tuple[int, ...]:
        return tuple(sorted(rng.choice(total, round(total * (1 - sparsity)), replace=False).tolist()))

    layers = range(geometry.layers)
    return KeepSet(
        heads=tuple(some(geometry.head_units) for _ in layers), channels=tuple(some(geometry.ffn) for _ in layers)
    )

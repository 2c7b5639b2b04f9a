"""Fold and finish of mixed-rank, mixed-sparsity updates, against a dense sum with a full SVD.

The baseline is what FlexLoRA-type servers do: add every client's product into a dense float32 matrix per layer, take a
full SVD of each, keep the server rank. It computes what delta-stack computes. factor-mean needs no decomposition.
Rows of folding alone, at the speed of memory and over the wire, follow (benchmarks/fold.py).
"""

import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.fold import NAIVE, FoldCase, measure_fold, random_keep_set
from benchmarks.report import Row, emit, parser
from fedcore.core.aggregation.sums.placing import placement
from fedcore.core.aggregation.table import make_aggregator
from fedcore.core.contract.protocols import AggregateReport
from fedcore.core.contract.update import Update, verify_update
from fedcore.core.model.adapter import AdapterSpec, initial_adapter, restrict
from fedcore.core.model.geometry import Geometry, geometry_from_config

RANKS = (4, 8, 16)
SPARSITIES = (0.0, 0.25, 0.5, 0.75)
BASELINE = "dense sum + full SVD"

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One model shape and cohort."""

    model: str
    geometry: Geometry
    clients: int
    repeats: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds of folding all updates and of finishing, and the share of energy that truncation dropped."""

    fold_s: float
    finish_s: float
    dropped: float


def bert(*, layers: int, hidden: int, ffn: int) -> Geometry:
    """A BERT-type geometry with 12 heads."""
    return geometry_from_config(
        {
            "model_type": "bert",
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "num_attention_heads": 12,
            "intermediate_size": ffn,
            "vocab_size": 30522,
            "max_position_embeddings": 512,
        }
    )


def make_cohort(spec: AdapterSpec, clients: int, rng: np.random.Generator) -> list[Update]:
    """Updates of every rank and sparsity in turn; each device has its own groups, drawn at random per layer."""
    updates = []
    for index in range(clients):
        rank, keep_set = RANKS[index % len(RANKS)], random_keep_set(spec.geometry, SPARSITIES[index % 4], rng)
        tensors = {
            name: 0.01 * rng.standard_normal(shape, dtype=np.float32)
            for name, shape in spec.shapes(rank=rank, keep_set=keep_set).items()
        }
        updates.append(
            Update(
                device=f"device-{index:03}", round=1, weight=10 + index, rank=rank, keep_set=keep_set, tensors=tensors
            )
        )
    return updates


def run_aggregator(name: str, spec: AdapterSpec, adapter: Arrays, updates: Sequence[Update]) -> Timing:
    """Verify and fold all updates and finish with one of our aggregators."""
    aggregator = make_aggregator(name)
    start = time.perf_counter()
    partial = aggregator.start(spec, adapter)
    for update in updates:
        partial = aggregator.fold(partial, verify_update(update, spec))
    folded = time.perf_counter()
    report: AggregateReport = aggregator.finish(partial, adapter)[1]
    return Timing(fold_s=folded - start, finish_s=time.perf_counter() - folded, dropped=report.dropped_energy)


def run_dense(spec: AdapterSpec, adapter: Arrays, updates: Sequence[Update]) -> Timing:
    """Add all products densely, then decompose every layer in full."""
    start = time.perf_counter()
    total = sum(update.weight for update in updates)
    dense = {at: adapter[_key(*at, "B")] @ adapter[_key(*at, "A")] for at in spec.modules()}
    for update in updates:
        share = np.float32(update.weight / total)
        before = restrict(spec, adapter, rank=update.rank, keep_set=update.keep_set)
        for at in spec.modules():
            b, a = before[_key(*at, "B")], before[_key(*at, "A")]
            both_b = np.hstack([share * (b + update.tensors[_key(*at, "B")]), -share * b])
            moved = both_b @ np.vstack([a + update.tensors[_key(*at, "A")], a])  # after - before in one product
            place = placement(spec, update.keep_set, *at)
            rows = slice(None) if place.b_rows is None else place.b_rows
            columns = slice(None) if place.a_columns is None else place.a_columns
            dense[at][rows, columns] += moved
    folded = time.perf_counter()
    energy = dropped = 0.0
    for matrix in dense.values():
        u, s, vt = np.linalg.svd(matrix, full_matrices=False)
        root = np.sqrt(s[: spec.rank])
        _ = u[:, : spec.rank] * root, vt[: spec.rank] * root[:, None]
        energy, dropped = energy + float(np.sum(s**2)), dropped + float(np.sum(s[spec.rank :] ** 2))
    return Timing(fold_s=folded - start, finish_s=time.perf_counter() - folded, dropped=dropped / energy)


def measure(case: Case) -> list[Row]:
    """Return one row per method; methods take turns, so that noise of the machine meets all of them."""
    setups = {name: _setup(case, name) for name in ("factor-mean", "delta-stack")}
    runs: dict[str, Callable[[], Timing]] = {
        "factor-mean": lambda: run_aggregator("factor-mean", *setups["factor-mean"]),
        "delta-stack": lambda: run_aggregator("delta-stack", *setups["delta-stack"]),
        BASELINE: lambda: run_dense(*setups["delta-stack"]),
    }
    timings: dict[str, list[Timing]] = {method: [] for method in runs}
    for _ in range(case.repeats):
        for method, run in runs.items():
            timings[method].append(run())
    megabytes = sum(value.nbytes for update in setups["factor-mean"][2] for value in update.tensors.values()) / 1e6
    medians = {method: _median(of_method) for method, of_method in timings.items()}
    baseline = medians[BASELINE].fold_s + medians[BASELINE].finish_s
    return [_row(case, method, medians[method], megabytes, baseline, _peak_mb(run)) for method, run in runs.items()]


def main() -> None:
    """Measure, print, and write JSON where asked."""
    args = parser("aggregate", "Fold and finish of mixed-rank updates against dense sum + full SVD.").parse_args()
    repeats = 1 if args.quick else 5
    minilm, base = bert(layers=6, hidden=384, ffn=1536), bert(layers=2, hidden=768, ffn=3072)
    cases = [Case(model="MiniLM, 6 x 384", geometry=minilm, clients=80, repeats=repeats)]
    if not args.quick:
        cases += [
            Case(model="BERT-base, 2 x 768", geometry=base, clients=clients, repeats=repeats) for clients in (80, 10)
        ]
    rows = [row for case in cases for row in measure(case)]
    rows += [measure_fold(case, repeats) for case in fold_cases(minilm, quick=args.quick)]
    notes = {
        "ranks": list(RANKS),
        "sparsities": list(SPARSITIES),
        "server rank": "16 (factor-mean), 64 (delta-stack and baseline)",
        "x baseline": "total time of the baseline / own; not given for factor-mean, which computes another mean",
        "times": f"median of {repeats}, methods taking turns",
        "peak MB": "tracemalloc peak of one fold + finish beyond the updates themselves",
        "fold": "one thread; of rows with 'naive MB/s', verification and folding are timed apart",
        "naive MB/s": NAIVE,
        "pack": "bringing sums of different ranks and keep-sets together included",
        "RSS growth MB": "peak of adapter, sums and finish in a process of its own, beyond imports and updates",
    }
    emit("aggregate", rows, args, notes=notes)


def fold_cases(minilm: Geometry, *, quick: bool) -> list[FoldCase]:
    """What a round of folding may look like: small tensors, masks, and an adapter of 100 MB."""
    half = FoldCase(
        model="MiniLM, 6 x 384", geometry=minilm, server_rank=16, ranks=(8, 16), sparsities=(0.5,), devices=20
    )
    if quick:
        return [half]
    large = bert(layers=12, hidden=1024, ffn=4096)
    whole = FoldCase(
        model="12 x 1024, 100 MB", geometry=large, server_rank=113, ranks=(113,), sparsities=(0.0,), devices=10
    )
    return [
        replace(half, ranks=(16,), sparsities=(0.0,)),
        half,
        replace(half, ranks=RANKS, sparsities=SPARSITIES, devices=48),
        replace(half, ranks=RANKS, sparsities=SPARSITIES, devices=48, personal=True),
        whole,
        replace(whole, ranks=(56,), sparsities=(0.5,)),
    ]


def _setup(case: Case, name: str) -> tuple[AdapterSpec, Arrays, list[Update]]:
    rank = make_aggregator(name).server_rank(max(RANKS))
    head = (("head.bias", (2,)), ("head.weight", (2, case.geometry.hidden)))
    spec = AdapterSpec(geometry=case.geometry, rank=rank, targets=case.geometry.modules, head=head)
    rng = np.random.default_rng(0)
    adapter = initial_adapter(spec, rng)
    for layer, module in spec.modules():
        shape = adapter[_key(layer, module, "B")].shape
        adapter[_key(layer, module, "B")] = 0.01 * rng.standard_normal(shape, dtype=np.float32)
    return spec, adapter, make_cohort(spec, case.clients, rng)


def _median(timings: Sequence[Timing]) -> Timing:
    return Timing(
        fold_s=statistics.median(timing.fold_s for timing in timings),
        finish_s=statistics.median(timing.finish_s for timing in timings),
        dropped=timings[0].dropped,
    )


def _peak_mb(run: Callable[[], Any]) -> float:
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def _row(case: Case, method: str, timing: Timing, megabytes: float, baseline_s: float, peak_mb: float) -> Row:
    total = timing.fold_s + timing.finish_s
    return {
        "model": case.model,
        "clients": case.clients,
        "method": method,
        "updates MB": round(megabytes, 1),
        "fold s": round(timing.fold_s, 4),
        "fold MB/s": round(megabytes / timing.fold_s, 1),
        "finish s": round(timing.finish_s, 4),
        "total s": round(total, 4),
        "x baseline": None if method == "factor-mean" else round(baseline_s / total, 2),
        "peak MB": round(peak_mb, 1),
        "dropped energy": None if method == "factor-mean" else round(timing.dropped, 6),
    }


def _key(layer: int, module: str, factor: str) -> str:
    return f"layers.{layer}.{module}.{factor}"


if __name__ == "__main__":
    main()

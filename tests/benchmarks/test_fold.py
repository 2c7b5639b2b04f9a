import numpy as np

from benchmarks.aggregate import bert
from benchmarks.fold import FoldCase, fold_naively, make_updates, measure_fold
from fedcore.core.aggregation.factor_mean import FactorMean

CASE = FoldCase(
    model="tiny",
    geometry=bert(layers=1, hidden=96, ffn=80),
    server_rank=8,
    ranks=(4, 8),
    sparsities=(0.0, 0.5),
    devices=6,
)


def test_the_naive_way_sums_the_same_integers():
    aggregator, updates = FactorMean(), make_updates(CASE, np.random.default_rng(0))
    partial = aggregator.start(CASE.spec)
    for update in updates:
        partial = aggregator.fold(partial, update)
    merged = aggregator.merge(aggregator.start(CASE.spec), partial)
    sums = {name: total for segment in merged.whole.exact() for name, total in segment.tensors()}
    naive = fold_naively(CASE.spec, updates)
    assert set(naive) == set(sums)
    assert all(np.array_equal(naive[name], total) for name, total in sums.items())


def test_a_row_holds_every_figure():
    row = measure_fold(CASE, repeats=1)
    assert row["clients"] == 6 and row["method"] == "factor-mean: rank 4/8, 0/50 % removed"
    assert all(row[name] > 0 for name in ("fold MB/s", "naive MB/s", "verify MB/s", "pack MB/s", "unpack + merge MB/s"))

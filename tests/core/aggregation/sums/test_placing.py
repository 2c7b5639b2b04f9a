import numpy as np
import pytest

from fedcore.core.aggregation.sums.placing import Placer, as_matrix, placement
from fedcore.core.model.keep_set import KeepSet
from tests.core.aggregation.cohort import make_spec, random_keep_set

SPARSE = KeepSet(heads=((1,), (0,)), channels=((2, 5), (0, 1)))
FAMILIES = pytest.mark.parametrize("family", ["bert", "gqa", "mqa"])


def placed(spec, rank, keep_set, held, *, step=1 << 20):
    totals = {name: np.zeros(shape, dtype=np.int64) for name, shape in spec.shapes().items()}
    placing = Placer(spec=spec, rank=rank, keep_set=keep_set, totals=totals)
    for name, value in held.items():
        matrix = as_matrix(value)
        for start in range(0, len(matrix), step):
            placing.add(name, start, matrix[start : start + step])
    return totals


def expected(spec, rank, keep_set, held):
    totals = {name: np.zeros(shape, dtype=np.int64) for name, shape in spec.shapes().items()}
    for name, value in held.items():
        if name.startswith("head."):
            totals[name][...] = value
            continue
        _, layer, module, factor = name.split(".")
        cut, (rows, columns) = spec.geometry.cut(module), totals[name].shape
        kept = keep_set.indices(spec.geometry, int(layer), module)
        if factor == "A":
            at = np.ix_(range(rank), kept if cut is not None and cut.side == "in" else range(columns))
        else:
            at = np.ix_(kept if cut is not None and cut.side == "out" else range(rows), range(rank))
        totals[name][at] = value
    return totals


@FAMILIES
@pytest.mark.parametrize("sparsity", [0.0, 0.5])
@pytest.mark.parametrize(("rank", "server_rank"), [(3, 8), (8, 8), (33, 40), (40, 40)])
@pytest.mark.parametrize("step", [1, 5, 1 << 20])
def test_every_value_lands_where_it_belongs(family, sparsity, rank, server_rank, step):
    rng, spec = np.random.default_rng(0), make_spec(family, rank=server_rank)
    keep_set = random_keep_set(spec, rng, sparsity=sparsity)
    shapes = spec.shapes(rank=rank, keep_set=keep_set)
    held = {name: rng.integers(-(2**40), 2**40, shape) for name, shape in shapes.items()}
    got, wanted = placed(spec, rank, keep_set, held, step=step), expected(spec, rank, keep_set, held)
    assert all(np.array_equal(got[name], wanted[name]) for name in wanted)


def test_layers_do_not_share_positions():
    spec = make_spec()
    keep_set = KeepSet(heads=((0, 2), (1, 3)), channels=((1, 5), (0, 19)))
    held = {f"layers.{layer}.up.B": np.full((2, 4), layer + 1) for layer in range(2)}
    totals = placed(spec, 4, keep_set, held)
    assert np.flatnonzero(totals["layers.0.up.B"][:, 0]).tolist() == [1, 5]
    assert np.flatnonzero(totals["layers.1.up.B"][:, 0]).tolist() == [0, 19]


def test_heads_become_columns():
    assert as_matrix(np.zeros((), dtype=np.float32)).shape == (1, 1)
    assert as_matrix(np.zeros(3, dtype=np.float32)).shape == (3, 1)
    assert as_matrix(np.zeros((3, 4), dtype=np.float32)).shape == (3, 4)


def test_a_full_keep_set_needs_no_indices():
    spec = make_spec("gqa")
    for layer, module in spec.modules():
        at = placement(spec, KeepSet.full(spec.geometry), layer, module)
        assert at.a_columns is None and at.b_rows is None


def test_output_side_modules_keep_rows_of_b():
    at = placement(make_spec("bert"), SPARSE, 0, "up")
    assert at.b_rows is not None and at.b_rows.tolist() == [2, 5] and at.a_columns is None


def test_input_side_modules_keep_columns_of_a():
    at = placement(make_spec("bert"), SPARSE, 1, "down")
    assert at.a_columns is not None and at.a_columns.tolist() == [0, 1] and at.b_rows is None


def test_a_grouped_unit_takes_its_query_heads_along():
    spec = make_spec("gqa")  # 9 query heads of 4 rows, 3 key/value heads
    queries, keys = placement(spec, SPARSE, 0, "q").b_rows, placement(spec, SPARSE, 0, "k").b_rows
    assert np.array_equal(queries, np.arange(12, 24)) and np.array_equal(keys, np.arange(4, 8))


def test_the_only_key_value_head_is_never_cut():
    at = placement(make_spec("mqa"), SPARSE, 0, "k")
    assert at.b_rows is None and at.a_columns is None
    assert placement(make_spec("mqa"), SPARSE, 0, "q").b_rows is not None

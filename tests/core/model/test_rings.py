import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.model.adapter import AdapterSpec, initial_adapter, restrict
from fedcore.core.model.geometry import Geometry
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.model.rings import joined, nested, ring
from tests.core.model.test_keep_set import BERT, GQA, HALF, MQA


def spec_of(geometry: Geometry, targets: tuple[str, ...] = ()) -> AdapterSpec:
    return AdapterSpec(geometry=geometry, rank=3, targets=targets or geometry.modules, head=())


@st.composite
def chains(draw: st.DrawFn, geometry: Geometry) -> tuple[KeepSet, ...]:
    """Keep-sets along one order of removal, from the sparsest; some may be alike."""
    orders = [
        (draw(st.permutations(range(geometry.head_units))), draw(st.permutations(range(geometry.ffn))))
        for _ in range(geometry.layers)
    ]
    steps = draw(st.integers(1, 4))
    heads = sorted(draw(st.lists(st.integers(1, geometry.head_units), min_size=steps, max_size=steps)))
    channels = sorted(draw(st.lists(st.integers(1, geometry.ffn), min_size=steps, max_size=steps)))
    return tuple(
        KeepSet(
            heads=tuple(tuple(sorted(order[:count])) for order, _ in orders),
            channels=tuple(tuple(sorted(order[:wide])) for _, order in orders),
        )
        for count, wide in zip(heads, channels, strict=True)
    )


@pytest.mark.parametrize("geometry", [BERT, GQA, MQA], ids=["bert", "gqa", "mqa"])
@given(data=st.data())
def test_rings_up_to_its_own_are_what_a_device_keeps(geometry: Geometry, data: st.DataObject) -> None:
    chain = data.draw(chains(geometry))
    targets = tuple(data.draw(st.lists(st.sampled_from(geometry.modules), min_size=1, unique=True)))
    spec = spec_of(geometry, targets)
    rng = np.random.default_rng(0)
    tensors = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in spec.shapes().items()}
    keep_sets = nested(data.draw(st.permutations(chain)))
    assert {each.blob_id for each in keep_sets} == {each.blob_id for each in chain}
    parts = [ring(spec, tensors, inner, outer) for inner, outer in itertools.pairwise((None, *keep_sets))]  # type: ignore[arg-type]
    for count, keep_set in enumerate(keep_sets, start=1):
        found = joined(parts[:count], keep_sets[:count])
        expected = restrict(spec, tensors, rank=spec.rank, keep_set=keep_set)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)
    values = sum(value.size for part in parts for value in part.values())
    assert values == spec.num_values(keep_set=keep_sets[-1]), "nothing is in two rings"


def test_keep_sets_of_different_orders_do_not_nest() -> None:
    other = KeepSet(heads=((0, 1), (1, 2)), channels=((0, 2, 5), (1, 3, 4)))
    assert nested([HALF, other]) == () == nested([])
    assert nested([KeepSet.full(BERT), HALF, HALF]) == (HALF, KeepSet.full(BERT))


def first_channels(count: int) -> KeepSet:
    return KeepSet(heads=((0,),), channels=(tuple(range(count)),))


@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=60), most=st.integers(1, 8))
def test_there_are_few_rings_and_every_keep_set_is_inside_the_last(counts: list[int], most: int) -> None:
    rings = nested(map(first_channels, counts), most)
    assert 1 <= len(rings) <= most and rings[-1] == first_channels(max(counts))
    assert list(rings) == sorted(set(rings), key=lambda each: each.counts)
    assert len(set(counts)) > most or len(rings) == len(set(counts))


def test_as_many_devices_lie_between_any_two_rings() -> None:
    counts = [*range(1, 21), *[30] * 20]
    assert [each.counts[1] for each in nested(map(first_channels, counts), 4)] == [10, 20, 30]


def test_a_ring_of_other_groups_than_its_keep_set_says_is_refused() -> None:
    spec = spec_of(BERT)
    tensors = initial_adapter(spec, np.random.default_rng(0))
    parts = [ring(spec, tensors, None, HALF), ring(spec, tensors, HALF, KeepSet.full(BERT))]
    with pytest.raises(ValueError, match="rows or columns for 0 groups"):
        joined(parts, [HALF, HALF])

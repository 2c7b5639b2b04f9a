import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.seeds import generator
from fedcore.nn.batched.schedule import PLACES, BatchSize, passes, schedule
from fedcore.nn.training.batches import epoch_batches, probe_indices
from tests.tiny_classifiers import learnable_rows


def test_batches_are_those_of_a_device_alone() -> None:
    rows = learnable_rows(11)
    plan = schedule(rows, 5, batch_size=4, steps=6)
    alone = list(itertools.islice(epoch_batches(rows, 4, generator(5, "batches")), 7))
    for got, expected in zip((*plan.steps, plan.calibration), alone, strict=True):
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(plan.probe, probe_indices(11, 4))


def test_a_shard_of_one_batch_starts_on_its_probe() -> None:
    assert schedule(learnable_rows(4), 0, batch_size=4, steps=1).starts_on_probe
    assert not schedule(learnable_rows(4), 0, batch_size=4, steps=0).starts_on_probe
    assert not any(schedule(learnable_rows(40), seed, batch_size=4, steps=1).starts_on_probe for seed in range(5))


def test_the_largest_step_is_the_one_with_the_most_padded_tokens() -> None:
    rows = learnable_rows(9)
    plan = schedule(rows, 0, batch_size=4, steps=4)
    sizes = [len(step) * max(rows.lengths[row] for row in step) for step in plan.steps]
    count, width = plan.largest(rows.lengths)
    assert count * width == max(sizes)
    assert schedule(rows, 0, batch_size=4, steps=0).largest(rows.lengths) == (0, 0)


@given(
    shapes=st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=9), max_size=20), max_tokens=st.integers(1, 300)
)
def test_passes_hold_everybody_once_and_no_more_than_allowed(shapes: list[list[int]], max_tokens: int) -> None:
    sizes = {i: BatchSize(tokens=sum(rows), rows=len(rows), width=max(rows)) for i, rows in enumerate(shapes)}
    groups = list(passes(sizes, max_tokens))
    assert sorted(device for group in groups for device in group) == list(range(len(sizes)))
    for group in groups:
        members = [sizes[device] for device in group]
        padded = sum(member.rows for member in members) * max(member.width for member in members)
        tokens = len(group) * max(member.tokens for member in members)
        assert len(group) == 1 or (tokens <= max_tokens and padded <= PLACES * max_tokens)


def test_one_long_row_does_not_pad_many_short_ones() -> None:
    sizes = {0: BatchSize(tokens=512, rows=1, width=512)}
    sizes |= {i: BatchSize(tokens=512, rows=64, width=8) for i in range(1, 4)}
    assert list(passes(sizes, 2048)) == [[1, 2, 3], [0]]

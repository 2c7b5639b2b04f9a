from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from fedcore.simulation.workload.workload import in_groups
from tests.simulation.workload.test_traffic import part


@given(st.integers(1, 30), st.integers(1, 9))
def test_groups_are_even_sorted_and_hold_every_part_once(count: int, most: int) -> None:
    parts = [part(f"device-{number:02}") for number in range(count)]
    groups = in_groups(parts[::-1], {}, most)
    sizes = [len(group.parts) for group in groups]
    assert max(sizes) <= most and max(sizes) - min(sizes) <= 1 and len(sizes) == -(-count // most)
    assert [member for group in groups for member in group.parts] == parts


def test_parts_that_train_differently_are_apart() -> None:
    one = part("a")
    changes = (replace(one.assignment, local_steps=2), replace(one.assignment, score=True))
    others = [replace(one, device=f"b{number}", assignment=change) for number, change in enumerate(changes)]
    groups = in_groups([one, *others, part("c")], {}, 8)
    assert [[member.device for member in group.parts] for group in groups] == [["a", "c"], ["b0"], ["b1"]]
    assert [group.assignment for group in groups] == [one.assignment, *changes]

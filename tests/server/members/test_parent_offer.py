import random

from hypothesis import given
from hypothesis import strategies as st

from fedcore.server.members.parent_offer import ParentOffer, rank_parents

NEEDS = {"model": 1000, "block": 30, "head": 4}
BLOBS = st.frozensets(st.sampled_from([*NEEDS, "other"]))
PARENTS = st.lists(
    st.builds(
        ParentOffer, address=st.sampled_from(["a:1", "b:1", "c:1", "d:1"]), holds=BLOBS, devices=st.integers(0, 3)
    ),
    max_size=5,
)


def parent(address: str, *holds: str, devices: int = 0) -> ParentOffer:
    return ParentOffer(address=address, holds=frozenset(holds), devices=devices)


def test_fewest_missing_bytes_come_first_then_fewest_devices_then_the_address() -> None:
    parents = [
        parent("d:1", "block", "head", devices=0),
        parent("c:1", "model", devices=3),
        parent("b:1", "model", "block", devices=3),
        parent("f:1", "model", devices=1),
        parent("a:1", "model", devices=3),
        parent("e:1", "elsewhere"),
    ]
    assert rank_parents(NEEDS, parents) == ("b:1", "f:1", "a:1", "c:1", "d:1", "e:1")


def test_one_large_blob_counts_more_than_many_small_ones() -> None:
    assert rank_parents(NEEDS, [parent("a:1", "block", "head"), parent("b:1", "model")]) == ("b:1", "a:1")


def test_without_needs_the_emptiest_comes_first() -> None:
    assert rank_parents({}, [parent("a:1", "model", devices=2), parent("b:1", devices=1)]) == ("b:1", "a:1")


def test_a_crowd_is_avoided_until_the_others_have_caught_up() -> None:
    def ranked(here: int, there: int) -> tuple[str, ...]:
        return rank_parents(NEEDS, [parent("a:1", *NEEDS, devices=here), parent("b:1", devices=there)])

    assert ranked(4, 0) == ("a:1", "b:1") and ranked(5, 0) == ("b:1", "a:1")
    assert ranked(24, 10) == ("a:1", "b:1") and ranked(25, 10) == ("b:1", "a:1")


def test_newcomers_fill_every_parent_also_where_one_alone_holds_what_they_need() -> None:
    devices = {"a:1": 0, "b:1": 0, "c:1": 0}
    for _ in range(60):
        parents = [parent(name, *(NEEDS if name == "a:1" else ()), devices=devices[name]) for name in devices]
        devices[rank_parents(NEEDS, parents)[0]] += 1
    assert min(devices.values()) >= 10


def test_nobody_to_go_to() -> None:
    assert rank_parents(NEEDS, []) == ()


@given(PARENTS, st.randoms(use_true_random=False))
def test_the_order_in_which_parents_came_does_not_matter(parents: list[ParentOffer], drawn: random.Random) -> None:
    shuffled = drawn.sample(parents, len(parents))
    assert rank_parents(NEEDS, shuffled) == rank_parents(NEEDS, parents)


@given(PARENTS)
def test_every_address_is_there_once_and_none_before_a_better_one(parents: list[ParentOffer]) -> None:
    ranked = rank_parents(NEEDS, parents)
    assert sorted(ranked) == sorted({each.address for each in parents})

    def missing(address: str) -> int:
        here = [each.holds for each in parents if each.address == address]
        return min(sum(size for name, size in NEEDS.items() if name not in holds) for holds in here)

    costs = [missing(address) for address in ranked]
    assert costs == sorted(costs)

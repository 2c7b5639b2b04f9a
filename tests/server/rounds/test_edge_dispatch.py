"""A round's work in as few messages as fit: every small blob once, and nothing lost on the way."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.protos.convert.tier import share_to_pb
from fedcore.protos.values import BlobRef, WireAssignment
from fedcore.protos.wire import MAX_MESSAGE_BYTES
from fedcore.server.rounds import edge_dispatch as module
from fedcore.server.rounds.edge_dispatch import MOST_ASSIGNMENTS, MOST_BYTES, round_shares, with_small_blobs
from fedcore.storage.blobs.name import blob_name
from tests.tiny_tier import TIER, assignment, small

LARGE = BlobRef(id=blob_name(b"large"), size=1 << 30, name="block")


def test_a_small_blob_crosses_once_and_a_large_one_by_name() -> None:
    assignments = {name: assignment(rank_blocks=(small(b"block"), LARGE)) for name in ("bob", "ada")}
    (share,) = round_shares(assignments, spec=TIER, deadline_s=7.0)
    assert [device for device, _ in share.assignments] == ["ada", "bob"]
    assert share.round == 1 and share.deadline_s == 7.0 and share.spec == TIER
    assert {blob.id for blob in share.blobs} == {ref.id for ref in assignments["ada"].refs if ref.inline}
    assert len(share.blobs) == 3 and all(blob.inline for blob in share.blobs)
    assert not any(ref.inline for _, bare in share.assignments for ref in bare.refs)


def test_filling_is_the_inverse_of_baring() -> None:
    given_assignment = assignment(rank_blocks=(small(b"a"), LARGE, small(b"b")))
    (share,) = round_shares({"ada": given_assignment}, spec=TIER, deadline_s=1.0)
    assert with_small_blobs(share.assignments[0][1], {blob.id: blob.inline for blob in share.blobs}) == given_assignment
    assert with_small_blobs(given_assignment, {}) == share.assignments[0][1]


def test_nobody_gets_no_message() -> None:
    assert list(round_shares({}, spec=TIER, deadline_s=1.0)) == []


def test_many_devices_take_several_messages_of_bounded_count() -> None:
    assignments = {f"d{number:04}": assignment() for number in range(2 * MOST_ASSIGNMENTS + 1)}
    sent = list(round_shares(assignments, spec=TIER, deadline_s=1.0))
    assert [len(share.assignments) for share in sent] == [MOST_ASSIGNMENTS, MOST_ASSIGNMENTS, 1]
    assert [len(share.blobs) for share in sent] == [3, 0, 0]


def test_personal_blobs_take_several_messages_of_bounded_size() -> None:
    size = MOST_BYTES // 4 - 2000  # and its names
    assignments = {f"d{number}": assignment(keep_set=small(bytes([number]) * size)) for number in range(9)}
    sent = list(round_shares(assignments, spec=TIER, deadline_s=1.0))
    assert all(sum(len(blob.inline) for blob in share.blobs) <= MOST_BYTES for share in sent)
    assert [len(share.assignments) for share in sent] == [4, 4, 1]


def test_the_names_of_many_blobs_count_too() -> None:
    blocks = tuple(replace(LARGE, name=f"0-1/{number}") for number in range(100))
    sent = list(
        round_shares(
            {f"d{number:04}": assignment(rank_blocks=blocks) for number in range(400)}, spec=TIER, deadline_s=1.0
        )
    )
    assert len(sent) > 1 and all(share_to_pb(share).ByteSize() < MAX_MESSAGE_BYTES for share in sent)


def test_one_blob_above_the_bound_still_goes() -> None:
    assignments = {"ada": assignment(keep_set=small(bytes(MOST_BYTES + 1))), "bob": assignment()}
    assert [len(share.assignments) for share in round_shares(assignments, spec=TIER, deadline_s=1.0)] == [1, 1]


BLOBS = st.binary(min_size=1, max_size=12).map(small)
ASSIGNMENTS = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=4),
    st.builds(
        lambda kept, head, blocks, seed: replace(
            assignment(), keep_set=kept, head=head, rank_blocks=tuple(blocks), seed=seed
        ),
        BLOBS,
        BLOBS,
        st.lists(BLOBS | st.just(LARGE), max_size=3),
        st.integers(0, 9),
    ),
    max_size=12,
)


@settings(max_examples=80, deadline=None)
@given(assignments=ASSIGNMENTS, most_assignments=st.integers(1, 4), most_bytes=st.integers(1, 40))
def test_all_shares_together_are_the_work(
    assignments: dict[str, WireAssignment], most_assignments: int, most_bytes: int
) -> None:
    held: dict[str, bytes] = {}
    got: dict[str, WireAssignment] = {}
    before = module.MOST_ASSIGNMENTS, module.MOST_BYTES
    module.MOST_ASSIGNMENTS, module.MOST_BYTES = most_assignments, most_bytes
    try:
        sent = list(round_shares(assignments, spec=TIER, deadline_s=1.0))
    finally:
        module.MOST_ASSIGNMENTS, module.MOST_BYTES = before
    for share in sent:  # an edge keeps the small blobs of earlier shares of the round
        assert 1 <= len(share.assignments) <= most_assignments
        assert not held.keys() & {blob.id for blob in share.blobs}, "twice"
        held |= {blob.id: blob.inline for blob in share.blobs}
        got |= {device: with_small_blobs(bare, held) for device, bare in share.assignments}
    assert got == assignments and list(got) == sorted(assignments)

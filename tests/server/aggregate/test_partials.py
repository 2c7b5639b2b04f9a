"""An edge's submission is counted whole or refused with the reason: never half, never with another error."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedcore.core.codec.chain import encode
from fedcore.core.errors import FedcoreError, ProtocolError, UpdateRejected
from fedcore.protos.tier_values import PartialSubmission
from fedcore.protos.values import BlobRef
from fedcore.server.aggregate.partials import partial_bound, verify_partial
from fedcore.server.aggregate.round_terms import RoundTerms
from fedcore.storage.blobs.name import blob_name
from tests.tiny_run import device_report, score_vectors
from tests.tiny_tier import KEPT, assignment, failure, root_sum, small, submitted, with_leaf

WORKS = {name: assignment(score=True, weight=4) for name in ("ada", "bob")}
PLAIN = {name: assignment() for name in ("ada", "bob", "cyd")}


@pytest.fixture
def scored(tmp_path: Path) -> tuple[RoundTerms, PartialSubmission]:
    """A round that asks for importances, and a whole answer of an edge."""
    return root_sum(tmp_path / "root", WORKS).terms, submitted(tmp_path / "edge", WORKS)


@pytest.fixture
def plain(tmp_path: Path) -> tuple[RoundTerms, PartialSubmission]:
    """A round of three devices, and the answer of an edge that has two of them."""
    below = {name: PLAIN[name] for name in ("ada", "bob")}
    return root_sum(tmp_path / "root", PLAIN).terms, submitted(tmp_path / "edge", below)


def test_a_whole_answer_is_taken_apart(scored: tuple[RoundTerms, PartialSubmission]) -> None:
    terms, submission = scored
    part = verify_partial("north", submission, terms, ())
    assert part.weight == 8 and part.outcomes == submission.leaves and part.partial is not None
    assert part.partial().members.keys == {("ada", 1), ("bob", 1)}
    for name in WORKS:
        read, expected = part.scores[name].scores, score_vectors(KEPT, name)
        assert read is not None
        np.testing.assert_array_equal(read.heads[0], expected["layers.0.heads"])
        assert bytes(part.scores[name].data) == encode(expected, "identity")


def test_failures_alone_need_no_partial(plain: tuple[RoundTerms, PartialSubmission]) -> None:
    terms, submission = plain
    only = replace(submission, partial=None, leaves=(failure("ada"), failure("bob")))
    part = verify_partial("north", only, terms, ())
    assert part.partial is None and part.weight == 0 and part.outcomes == only.leaves


REPORT = device_report()
REFUSALS: list[tuple[str, Any]] = [
    ("expected every leaf once, sorted by name", lambda s: replace(s, leaves=s.leaves[::-1])),
    ("expected every leaf once, sorted by name", lambda s: replace(s, leaves=(s.leaves[0], *s.leaves))),
    (r"'eve' has no assignment in this round", lambda s: replace(s, leaves=(*s.leaves, failure("eve")))),
    ("ada: expected a report with every counted update", lambda s: with_leaf(s, "ada", report=None)),
    ("ada: expected a report with every counted", lambda s: with_leaf(s, "ada", counted=False, scores_bytes=0)),
    ("expected times of 0 or more", lambda s: with_leaf(s, "bob", time_s=-1.0)),
    ("expected times of 0 or more", lambda s: with_leaf(s, "bob", time_s=float("nan"))),
    ("expected times of 0 or more", lambda s: with_leaf(s, "bob", fold_s=float("inf"))),
    ("reported loss_after nan", lambda s: with_leaf(s, "bob", report=device_report(loss_after=float("nan")))),
    ("reported loss_before -1", lambda s: with_leaf(s, "bob", report=device_report(loss_before=-1.0))),
    (r"asked for and are missing: \['bob'\]", lambda s: with_leaf(s, "bob", scores_bytes=0)),
    (r"asked for and are missing: \[\]", lambda s: replace(s, scores=None)),
    ("expected .* bytes of importances, got", lambda s: with_leaf(s, "bob", scores_bytes=10**12)),
    ("2 leaves are counted in a partial that did not come", lambda s: replace(s, partial=None)),
    (
        r"it holds other updates than it says: \[\('bob', 1\)\]",
        lambda s: with_leaf(s, "bob", counted=False, report=None, scores_bytes=0, message="?"),
    ),
]


@pytest.mark.parametrize(("words", "change"), REFUSALS)
def test_what_does_not_fit_is_refused_with_edge_round_and_reason(
    words: str, change: Any, scored: tuple[RoundTerms, PartialSubmission]
) -> None:
    terms, submission = scored
    changed = change(submission)
    if changed.leaves != submission.leaves and changed.scores is not None and "other updates" in words:
        changed = replace(changed, scores=small(changed.scores.inline[: changed.leaves[0].scores_bytes]))
    with pytest.raises(UpdateRejected, match=f"^partial 1 of north for round 1.*{words}"):
        verify_partial("north", changed, terms, ())


def test_lengths_that_lie_about_the_importances_are_refused(scored: tuple[RoundTerms, PartialSubmission]) -> None:
    terms, submission = scored
    size = submission.leaves[0].scores_bytes
    lying = with_leaf(with_leaf(submission, "ada", scores_bytes=size - 8), "bob", scores_bytes=size + 8)
    with pytest.raises(UpdateRejected, match=r"^partial 1 of north"):
        verify_partial("north", lying, terms, ())


def test_importances_nobody_asked_for_are_refused(plain: tuple[RoundTerms, PartialSubmission]) -> None:
    terms, submission = plain
    data = encode(score_vectors(KEPT, "ada"), "identity")
    eager = replace(with_leaf(submission, "ada", scores_bytes=len(data)), scores=small(data))
    with pytest.raises(UpdateRejected, match=r"devices that were not asked for them: \['ada'\]"):
        verify_partial("north", eager, terms, ())
    idle = replace(submission, leaves=(*submission.leaves, replace(failure("cyd"), scores_bytes=len(data))))
    with pytest.raises(UpdateRejected, match="cyd: expected importances with a counted update only"):
        verify_partial("north", replace(idle, scores=small(data)), terms, ())


def test_a_weight_that_was_not_assigned_is_refused(tmp_path: Path, plain: tuple[RoundTerms, PartialSubmission]) -> None:
    terms, _ = plain
    heavy = submitted(tmp_path / "heavy", {"ada": assignment(weight=5), "bob": assignment(weight=4)})
    with pytest.raises(UpdateRejected, match="expected a total weight of 8 as assigned, got 9"):
        verify_partial("north", heavy, terms, ())


def test_members_of_another_round_are_refused(tmp_path: Path) -> None:
    terms = root_sum(tmp_path / "root", {"ada": assignment(2)}).terms
    other = submitted(tmp_path / "edge", {"ada": assignment(1)})
    with pytest.raises(UpdateRejected, match="it holds other updates than it says"):
        verify_partial("north", replace(other, round=2), terms, ())


def test_a_sum_that_its_weight_cannot_reach_is_refused(plain: tuple[RoundTerms, PartialSubmission]) -> None:
    terms, submission = plain
    assert submission.partial is not None
    partial = terms.aggregator.unpack(submission.partial.inline, terms.spec)
    sums = terms.aggregator.start(terms.spec)
    sums = terms.aggregator.merge(sums, partial)
    for segment in sums.whole.segments:
        for _, total in segment.tensors():
            total += 1 << 62
    data = b"".join(bytes(chunk) for chunk in terms.aggregator.pack(sums))
    blob = BlobRef(id=terms.blobs.put_bytes(data), size=len(data))
    with pytest.raises(UpdateRejected, match="holds a sum its weight cannot reach"):
        verify_partial("north", replace(submission, partial=blob), terms, ())


def test_more_than_fits_into_a_message_is_refused(plain: tuple[RoundTerms, PartialSubmission]) -> None:
    terms, submission = plain
    data = bytes(partial_bound(terms, 3) + 1)
    with pytest.raises(UpdateRejected, match="bytes came inside a message"):
        verify_partial("north", replace(submission, partial=small(data)), terms, ())


def test_an_edge_lets_unassigned_devices_through_as_long_as_sums_stay_within_bounds(tmp_path: Path) -> None:
    terms = replace(root_sum(tmp_path / "edge", {"ada": assignment(weight=4)}).terms, unassigned=True)
    below = submitted(tmp_path / "deep", {"bob": assignment(weight=4), "cyd": assignment(weight=4)})
    part = verify_partial("deep", below, terms, ())
    assert part.weight == 8 and part.unassigned_weight(terms) == 8
    heavy = submitted(tmp_path / "heavy", {"bob": assignment(weight=2**24 - 3)})
    with pytest.raises(UpdateRejected, match="at most of devices unknown here"):
        verify_partial("deep", heavy, terms, ())


def test_partials_that_came_before_leave_less_room_for_unassigned_devices(tmp_path: Path) -> None:
    terms = replace(root_sum(tmp_path / "edge", {"ada": assignment(weight=4)}).terms, unassigned=True)
    first = verify_partial("deep", submitted(tmp_path / "deep", {"bob": assignment(weight=2**24 - 12)}), terms, ())
    fits = submitted(tmp_path / "fits", {"cyd": assignment(weight=8)})
    assert verify_partial("next", fits, terms, [first]).weight == 8
    heavy = submitted(tmp_path / "heavy", {"cyd": assignment(weight=9)})
    with pytest.raises(UpdateRejected, match="expected a weight of 8 at most of devices unknown here, got 9"):
        verify_partial("next", heavy, terms, [first])


def test_the_bound_grows_with_importances_alone_and_covers_what_comes(
    scored: tuple[RoundTerms, PartialSubmission],
) -> None:
    terms, submission = scored
    assert submission.scores is not None and submission.partial is not None
    assert max(submission.scores.size, submission.partial.size) <= partial_bound(terms, 2) <= partial_bound(terms, 500)


GARBAGE = st.binary(max_size=200) | st.integers(0, 400).map(bytes)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=GARBAGE, cut=st.integers(0, 4000), flip=st.integers(0, 4000), whole=st.booleans(), scores=st.booleans())
def test_packed_garbage_is_never_another_error(
    scored: tuple[RoundTerms, PartialSubmission], data: bytes, cut: int, flip: int, whole: bool, scores: bool
) -> None:
    terms, submission = scored
    given_ref = submission.scores if scores else submission.partial
    assert given_ref is not None
    good = bytearray(given_ref.inline)
    if whole:
        good[flip % len(good)] ^= 1 + cut % 255
        data = bytes(good)
    else:
        data = data or bytes(good[: cut % len(good)])
    ref = small(data) if data else BlobRef(id=blob_name(data), size=0)
    changed = replace(submission, scores=ref) if scores else replace(submission, partial=ref)
    try:
        part = verify_partial("north", changed, terms, ())
    except (UpdateRejected, ProtocolError):
        return
    except FedcoreError as error:
        raise AssertionError(repr(error)) from error
    assert part.partial is not None and part.partial().members.weight == 8

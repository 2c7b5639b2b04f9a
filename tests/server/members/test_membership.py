"""One membership for every parent: who is admitted, who is live, how each session ends, and what the parent hears."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from fedcore.core.errors import CertificateError, ConfigError, FedcoreError, JoinRefused, TransportError
from fedcore.protos.tier_values import (
    Holding,
    LeafDismissed,
    LeafJoin,
    LeafJoined,
    LeafLeft,
    LeafRefused,
)
from fedcore.protos.values import AssignmentFailure, Heartbeat, Newcomer
from fedcore.server.members.hooks import Cause, Departure, MembershipHooks
from fedcore.server.members.membership import Membership
from tests.server.members.fake_parent import (
    DESCRIPTION,
    LEFT,
    LOST,
    REPLACED,
    WELCOME,
    FakeParent,
    device_join,
    edge_join,
    identity,
    outbox,
)

FAILURE = AssignmentFailure(round=1, message="out of memory")


@pytest.fixture
def parent() -> FakeParent:
    return FakeParent()


# --- joining ---


def test_a_newcomer_gets_its_welcome_with_the_token_that_names_it(parent: FakeParent) -> None:
    session = parent.join(device_join())
    assert outbox(session) == [replace(WELCOME, session=session.token)]
    assert parent.news == [("arrived", "ada")] and parent.asked == [session.join]
    found = parent.membership.session_of("ada", session.token)
    assert found is session and parent.membership.session_of("ada", "") is None
    assert parent.membership.session_of("bob", session.token) is None


def test_a_device_and_an_edge_of_one_name_are_told_apart_by_their_tokens(parent: FakeParent) -> None:
    device, edge = parent.join(device_join("north")), parent.join(edge_join("north"))
    assert parent.membership.session_of("north", device.token) is device
    assert parent.membership.session_of("north", edge.token) is edge and parent.departed == []


@pytest.mark.parametrize(
    ("epoch", "uuid", "words"), [(1, "u1", "this one is stale"), (9, "u2", "another device named ada is connected")]
)
@pytest.mark.parametrize("make", [device_join, edge_join])
def test_a_name_that_is_taken_is_refused_before_the_parent_is_asked(
    parent: FakeParent, make: Callable[..., object], epoch: int, uuid: str, words: str
) -> None:
    session = parent.join(make("ada"))  # type: ignore[arg-type]
    with pytest.raises(JoinRefused, match=words):
        parent.join(make("ada", epoch=epoch, uuid=uuid))  # type: ignore[arg-type]
    assert len(parent.asked) == 1 and parent.departed == [] and parent.membership.session_of("ada", session.token)
    assert parent.news[-1][:2] == ("refused", "ada")


@pytest.mark.parametrize(
    ("error", "reported"),
    [
        (JoinRefused("no"), True),
        (CertificateError("no"), True),
        (ConfigError("no"), False),
        (TransportError(""), False),
    ],
)
def test_a_refusal_that_the_newcomer_can_mend_is_reported(
    parent: FakeParent, error: FedcoreError, reported: bool
) -> None:
    parent.refusal = error
    with pytest.raises(type(error)):
        parent.join(device_join())
    assert parent.news == ([("refused", "ada", "no")] if reported else []) and parent.arrived == []


def test_certificates_are_checked_before_the_parent_is_asked(parent: FakeParent) -> None:
    with pytest.raises(CertificateError, match="came with a certificate for device:bob"):
        parent.join(device_join(), identity("bob"))
    parent.lists.revoke(7)
    with pytest.raises(CertificateError, match="was revoked on 2026-01-02"):
        parent.join(device_join(), identity("ada"))
    with pytest.raises(ConfigError, match="expected 1-63 characters"):
        parent.join(replace(device_join(), name="Not a Name"))
    assert parent.asked == [] and [kind for kind, *_ in parent.news] == ["refused", "revocations", "refused"]


def test_another_protocol_or_name_is_refused_before_the_parent_is_asked_on_either_way(parent: FakeParent) -> None:
    edge = parent.join(edge_join())
    outbox(edge)
    strange = replace(device_join(), protocol_min=2, protocol_max=3)
    with pytest.raises(JoinRefused, match="speaks protocol 2-3"):
        parent.join(strange)
    for join in (strange, replace(device_join(), name="Not a Name")):
        parent.membership.receive(edge, LeafJoin(join=join))
    assert [refused.error for refused in outbox(edge)] == ["JoinRefused", "ConfigError"] and len(parent.asked) == 1


def test_a_certificate_that_is_revoked_while_the_parent_is_asked_is_refused(parent: FakeParent) -> None:
    parent.asks = True
    parent.join(device_join(), identity("ada"))
    parent.lists.revoke(7)
    with pytest.raises(CertificateError, match="was revoked"):
        parent.answer()
    assert ("withdrawn", "ada") in parent.news and parent.arrived == []


def test_who_asks_while_the_membership_closes_comes_again_elsewhere(parent: FakeParent) -> None:
    parent.asks = True
    parent.join(device_join())
    parent.membership.close(None, refusal="stopping; come again")
    with pytest.raises(TransportError, match="stopping; come again"):
        parent.answer()
    with pytest.raises(TransportError, match="stopping; come again"):
        parent.join(device_join("bob"))
    assert parent.news == [("withdrawn", "ada")] and len(parent.asked) == 1


def test_an_older_session_whose_answer_comes_late_does_not_replace_a_newer_one(parent: FakeParent) -> None:
    parent.asks = True
    parent.join(device_join(epoch=1))
    parent.join(device_join(epoch=2))
    newer = parent.answer(1)
    with pytest.raises(JoinRefused, match="this one is stale"):
        parent.answer(0)
    assert parent.arrived == [newer] and parent.departed == [] and ("withdrawn", "ada") in parent.news


# --- describing ---


def test_a_description_ranks_the_edges_by_what_the_newcomer_needs(parent: FakeParent) -> None:
    for name in ("north", "south"):
        parent.join(edge_join(name))
    south = parent.membership.edges.find("south")
    assert south is not None
    parent.membership.receive(south, Holding(blobs=("model",)))
    parent.needs = {"model": 5}
    described = parent.begin(parent.membership.describe(Newcomer(name="ada"), None))
    assert described == replace(DESCRIPTION, parents=("south:1", "north:1"))


def test_a_shard_goes_to_the_device_of_the_certificate_or_through_an_edge(parent: FakeParent) -> None:
    newcomer = Newcomer(name="ada", device_class="agx", wants_shard=True)
    for shown in (None, identity("ada"), identity("agx", "class"), identity("north", "edge")):
        assert parent.begin(parent.membership.describe(newcomer, shown)) == DESCRIPTION
    with pytest.raises(CertificateError, match="expected class:agx or device:ada"):
        parent.begin(parent.membership.describe(newcomer, identity("bob")))
    assert parent.news == []
    parent.refusal = JoinRefused("no shard is left")
    with pytest.raises(JoinRefused):
        parent.begin(parent.membership.describe(newcomer, None))
    assert parent.news == [("refused", "ada", "no shard is left")]


# --- messages ---


def test_messages_of_a_live_session_are_signs_of_life_and_a_fenced_ones_do_not_count(parent: FakeParent) -> None:
    older = parent.join(device_join(epoch=1))
    parent.membership.receive(older, FAILURE)
    newer = parent.join(device_join(epoch=2))
    assert outbox(older)[-1] is None and parent.departed == [(older, REPLACED)]
    parent.membership.receive(older, FAILURE)
    parent.membership.sign_of_life(older)
    parent.membership.sign_of_life(newer)
    parent.membership.leave(older)
    assert parent.messages == [(older, FAILURE)] and parent.alive == [older, newer] and len(parent.departed) == 1


def test_only_an_edge_presents_devices(parent: FakeParent) -> None:
    session, word = parent.join(device_join()), LeafJoin(join=device_join("bob"))
    parent.membership.receive(session, word)
    parent.membership.receive(session, LeafLeft(device="ada"))
    assert parent.arrived == [session] and parent.departed == [] and parent.messages[0] == (session, word)


def test_what_an_edge_says_of_membership_does_not_reach_the_parent(parent: FakeParent) -> None:
    edge = parent.join(edge_join())
    for message in (LeafJoin(join=device_join()), LeafLeft(device="nobody"), Holding(blobs=()), Heartbeat()):
        parent.membership.receive(edge, message)
    assert parent.messages == [(edge, Heartbeat())] and parent.alive == [edge] * 4


# --- devices below an edge ---


def test_a_device_below_an_edge_is_welcomed_through_it(parent: FakeParent) -> None:
    edge = parent.join(edge_join())
    outbox(edge)
    parent.membership.receive(edge, LeafJoin(join=device_join()))
    assert outbox(edge) == [LeafJoined(device="ada", welcome=WELCOME)]
    device = parent.membership.edges.device_below(edge, "ada")
    assert parent.arrived == [edge, device] and parent.membership.sessions.find("ada") is device
    assert parent.membership.session_of("ada", "") is None, "it uploads to its edge"


def test_a_device_below_an_edge_is_refused_through_it(parent: FakeParent) -> None:
    edge = parent.join(edge_join())
    outbox(edge)
    parent.refusal = ConfigError("no row")
    parent.membership.receive(edge, LeafJoin(join=device_join()))
    assert outbox(edge) == [LeafRefused(device="ada", error="ConfigError", message="no row")]
    assert parent.news[-1] == ("refused", "ada", "no row")


def test_a_device_whose_edge_left_while_the_parent_was_asked_is_withdrawn(parent: FakeParent) -> None:
    edge = parent.join(edge_join())
    parent.asks = True
    parent.membership.receive(edge, LeafJoin(join=device_join()))
    parent.membership.leave(edge)
    parent.answer()
    assert parent.news[1:] == [("departed", "north", Cause.LEFT, False), ("withdrawn", "ada")]


def test_a_device_that_comes_directly_fences_its_session_below_an_edge(parent: FakeParent) -> None:
    edge = parent.join(edge_join())
    (device,) = parent.below(edge, "ada")
    direct = parent.join(device_join(epoch=2))
    assert outbox(edge) == [LeafDismissed(device="ada", epoch=1)] and parent.departed == [(device, REPLACED)]
    assert parent.membership.edges.devices_below(edge) == () and parent.membership.sessions.find("ada") is direct


@pytest.mark.parametrize("lost", [True, False])
@pytest.mark.parametrize("revoked", [True, False])
def test_an_edge_says_how_a_device_below_it_ended(parent: FakeParent, lost: bool, revoked: bool) -> None:
    edge = parent.join(edge_join())
    (device,) = parent.below(edge, "ada")
    for _ in range(2):
        parent.membership.receive(edge, LeafLeft(device="ada", lost=lost, revoked=revoked))
    assert parent.departed == [(device, Departure(cause=Cause.REVOKED if revoked else Cause.LEFT, lost=lost))]
    assert [kind for kind, *_ in parent.news[2:]] == (["evicted"] if revoked else []) + ["departed"]


def test_an_edge_takes_its_devices_along_and_its_next_session_presents_them_again(parent: FakeParent) -> None:
    older = parent.join(edge_join(epoch=1))
    ada, bob = parent.below(older, "ada", "bob")
    newer = parent.join(edge_join(epoch=2))
    assert parent.departed == [(ada, LEFT), (bob, LEFT), (older, REPLACED)] and parent.arrived[-1] is newer
    again = parent.below(newer, "ada", "bob")
    parent.membership.leave(older)
    assert parent.membership.edges.devices_below(newer) == tuple(again)
    parent.membership.expire(newer)
    assert parent.departed[3:] == [(again[0], LOST), (again[1], LOST), (newer, LOST)]


def test_a_parent_that_admits_edges_without_running_their_joins_is_told(parent: FakeParent) -> None:
    def ignore(*_: object) -> None:
        pass

    hooks = MembershipHooks(
        describe=parent._describe,
        admit=parent._admit,
        arrived=ignore,
        departed=ignore,
        alive=ignore,
        message=ignore,
        evicted=ignore,
        revocations_refused=ignore,
    )
    membership = Membership(hooks)
    edge = parent.begin(membership.join(edge_join(), None))
    with pytest.raises(RuntimeError, match="must give `spawn`"):
        membership.receive(edge, LeafJoin(join=device_join()))

"""A parent gives the hooks that it needs; the others do nothing, except the one that only a parent of edges needs."""

from typing import Any

import pytest

from fedcore.core.errors import JoinRefused
from fedcore.server.members.hooks import Cause, Departure, MembershipHooks
from fedcore.storage.pki.revocation import RevocationList
from tests.server.members.test_admission import JOIN


def hooks() -> MembershipHooks:
    def unused(*_: Any) -> Any:
        raise AssertionError("not called here")

    names = ("describe", "admit", "arrived", "departed", "alive", "message", "evicted", "revocations_refused")
    return MembershipHooks(**dict.fromkeys(names, unused))


def test_hooks_that_a_parent_does_not_give_do_nothing() -> None:
    without = hooks()
    without.revocations_changed(RevocationList())
    without.withdrawn(JOIN)
    without.refused("ada", JoinRefused("x"))


def test_a_parent_of_edges_must_give_spawn() -> None:
    began = []

    async def joining() -> None:
        began.append("join")

    coroutine = joining()
    with pytest.raises(RuntimeError, match="a parent that admits edges must give `spawn`"):
        hooks().spawn(coroutine)
    assert coroutine.cr_frame is None and began == [], "closed, so that Python does not warn of it"


def test_a_departure_loses_nothing_unless_it_says_so() -> None:
    assert not Departure(cause=Cause.LEFT).lost and str(Cause.REVOKED) == "revoked"

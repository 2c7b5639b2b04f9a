"""Revoked certificates are kept out: newcomers are checked, members are cut off, edges get the list."""

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import pytest

from fedcore.core.errors import CertificateError
from fedcore.protos.tier_values import Revocations
from fedcore.server.members.revocation_guard import RevocationGuard
from fedcore.server.members.sessions import Session
from fedcore.server.process.tasks import Tasks
from tests.server.members.fake_parent import Lists, edge_join, identity, outbox
from tests.server.members.test_admission import JOIN


class FakeTasks:
    """Timers that run when a test says so."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.cancelled = 0

    def later(self, delay_s: float, act: Callable[[], None]) -> "FakeTasks":
        self.timers.append((delay_s, act))
        return self

    def cancel(self) -> None:
        self.cancelled += 1


class Broken(Lists):
    """Lists that cannot be used."""

    fault: Exception | None = None

    def refresh(self) -> bool:
        if self.fault is not None:
            raise self.fault
        return super().refresh()

    def install(self, crl: bytes) -> bool:
        if self.fault is not None:
            raise self.fault
        if crl == b"newer":
            self.revoke(7)
        return self.refresh()


class Guarded:
    """A guard and one member with the certificate 7."""

    def __init__(self) -> None:
        self.session = Session(JOIN, identity=identity("ada", serial=7))
        self.lists, self.news = Broken(), list[tuple[str, str]]()
        self.members = [self.session]
        self.guard = RevocationGuard(
            self.lists,
            sessions=lambda: self.members,
            evict=self._evict,
            changed=lambda: self.news.append(("changed", str(self.lists.current.number))),
            refused=lambda reason: self.news.append(("refused", reason)),
        )

    def _evict(self, session: Session) -> None:
        self.members.remove(session)
        self.news.append(("evicted", session.name))


def test_a_member_on_a_new_list_is_cut_off_after_the_list_is_passed_on() -> None:
    guarded = Guarded()
    guarded.guard.look()
    assert guarded.news == []
    guarded.lists.revoke(7)
    guarded.guard.look()
    assert guarded.news == [("changed", "1"), ("evicted", guarded.session.name)]
    assert isinstance(guarded.session.fault, CertificateError) and outbox(guarded.session) == [None]
    guarded.guard.look()
    assert len(guarded.news) == 2, "once"


def test_a_member_that_joined_during_a_change_is_cut_off_at_the_next_look() -> None:
    guarded = Guarded()
    guarded.members.clear()
    guarded.lists.revoke(7)
    guarded.guard.look()
    guarded.members.append(guarded.session)
    guarded.guard.look()
    assert guarded.news == [("changed", "1"), ("evicted", guarded.session.name)]


def test_a_newcomer_is_checked_against_a_list_of_this_moment() -> None:
    guarded = Guarded()
    guarded.lists.revoke(8)
    guarded.guard.check_certificate(identity("bob", serial=9))
    guarded.guard.check_certificate(None)
    with pytest.raises(CertificateError):
        guarded.guard.check_certificate(identity("eve", serial=8))
    assert guarded.news == [("changed", "1")]


@pytest.mark.parametrize("fault", [CertificateError("damaged"), OSError("no space")])
def test_a_list_from_above_that_is_unusable_is_reported(fault: Exception) -> None:
    guarded = Guarded()
    guarded.guard.install(b"older")
    assert guarded.news == []
    guarded.guard.install(b"newer")
    assert guarded.news == [("changed", "1"), ("evicted", guarded.session.name)]
    guarded.lists.fault = fault
    guarded.guard.install(b"bad")
    assert guarded.news[2:] == [("refused", str(fault))]


def test_a_damaged_file_is_reported_and_members_stay() -> None:
    guarded = Guarded()
    guarded.lists.fault = CertificateError("damaged")
    guarded.guard.look()
    assert guarded.news == [("refused", "damaged")] and guarded.members == [guarded.session]


def test_an_edge_gets_a_list_if_it_takes_lists_and_there_is_one() -> None:
    guarded = Guarded()
    edges = [Session(replace(edge_join(), takes_revocations=takes)) for takes in (True, False)]
    for edge in edges:
        guarded.guard.send_list(edge)
    assert [outbox(edge) for edge in edges] == [[], []], "the empty list needs no message"
    guarded.lists.revoke(1)
    guarded.guard.look()
    for edge in edges:
        guarded.guard.send_list(edge)
    assert [outbox(edge) for edge in edges] == [[Revocations(crl=b"crl")], []]


def test_looks_come_three_times_a_lease_until_the_close() -> None:
    guarded, tasks = Guarded(), FakeTasks()
    guarded.guard.begin(cast(Tasks, tasks), 6.0)
    guarded.lists.revoke(7)
    tasks.timers[0][1]()
    assert [delay_s for delay_s, _ in tasks.timers] == [2.0, 2.0] and guarded.members == []
    guarded.guard.close()
    assert tasks.cancelled == 1

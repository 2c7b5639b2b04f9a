"""The round machine's state: counts that follow its entries, and leases by exact times."""

from fedcore.core.contract.outcome import Status
from fedcore.core.rounds.policy import RoundPolicy
from fedcore.core.rounds.state import Member, Presence, RoundState

POLICY = RoundPolicy(
    total_rounds=2, quorum=0.5, deadline_s=10.0, lease_s=3.0, min_devices=1, max_void_rounds=2, join_deadline_s=20.0
)
STATE = RoundState(policy=POLICY, now_s=5.0)


def present(seen_s: float, *, connected: bool = True, epoch: int = 1) -> Presence:
    return Presence(epoch=epoch, connected=connected, seen_s=seen_s)


def test_the_roster_has_connected_devices_in_their_lease() -> None:
    state = STATE.with_session("cyd", present(2.1)).with_session("ada", present(5.0))
    state = state.with_session("bob", present(5.0, connected=False)).with_session("eve", present(2.0))
    assert state.roster == ("ada", "cyd"), "eve's lease ended at 5.0"
    assert state.connected == 3 and state.enough_here
    assert not RoundState(policy=POLICY, devices_needed=1).enough_here


def test_connected_counts_each_device_once() -> None:
    state = STATE.with_session("ada", present(1.0)).with_session("ada", present(2.0, epoch=2))
    assert state.connected == 1
    assert state.with_session("ada", present(2.0, connected=False)).connected == 0


def test_pending_counts_members_without_a_status() -> None:
    state = STATE.with_members({"ada": Member(), "bob": Member()})
    assert state.pending == 2
    state = state.with_members({"ada": Member(status=Status.ACCEPTED)})
    assert state.pending == 1 and state.with_members({"ada": Member()}).pending == 2
    assert state.without_members().pending == 0 and len(state.without_members().members) == 0


def test_a_lease_ends_after_the_last_sign_of_life_or_the_opening() -> None:
    state = RoundState(policy=POLICY, opened_at_s=4.0).with_session("ada", present(6.0))
    assert (state.lease_end_s("ada"), state.lease_end_s("bob"), state.deadline_at_s) == (9.0, 7.0, 14.0)


def test_time_never_goes_back() -> None:
    assert STATE.at(7.0).now_s == 7.0 and STATE.at(4.0) is STATE


def test_void_rounds_do_not_count_towards_the_last() -> None:
    assert [RoundState(policy=POLICY, round=number).is_last for number in (1, 2, 3)] == [False, False, True]
    assert not RoundState(policy=POLICY, round=3, void_rounds=1).is_last

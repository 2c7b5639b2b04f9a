import math

from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.contract.outcome import PHASES
from fedcore.core.contract.phases import GRAIN_S, RATE_TOLERANCE, Timing, account

SECONDS = st.floats(0, 1e6)


def test_what_the_phases_leave_is_waiting() -> None:
    known = account(10.0, {"download": 1.0, "train": 5.0, "upload": 2.5})
    assert (known.timing, known.wait_s, known.overrun_s) == (Timing.OK, 1.5, 0.0)


def test_a_little_too_much_is_told_and_is_no_fault() -> None:
    known = account(100.0, {"train": 101.0})
    assert (known.timing, known.wait_s, known.overrun_s) == (Timing.OK, 0.0, 1.0)


def test_much_too_much_is_the_devices_clock_unless_some_of_it_lies_before_the_push() -> None:
    phases = {"train": 30.0, "upload": 1.0}
    clock, repushed = account(10.0, phases), account(10.0, phases, repushed=True)
    assert (clock.timing, clock.wait_s, clock.overrun_s) == (Timing.CLOCK, None, 21.0)
    assert (repushed.timing, repushed.wait_s, repushed.overrun_s) == (Timing.REPUSHED, None, 21.0)


def test_a_push_that_was_repeated_by_the_same_parent_changes_nothing() -> None:
    assert account(10.0, {"train": 3.0}, repushed=True) == account(10.0, {"train": 3.0})


def test_figures_beyond_all_bounds_do_not_raise() -> None:
    known = account(1.0, dict.fromkeys(PHASES, 1.7e308))
    assert known.timing is Timing.CLOCK and math.isinf(known.overrun_s)


@given(time_s=SECONDS, phases=st.fixed_dictionaries(dict.fromkeys(PHASES, SECONDS)), repushed=st.booleans())
def test_an_account_adds_up(time_s: float, phases: dict[str, float], repushed: bool) -> None:
    known = account(time_s, phases, repushed=repushed)
    assert known.overrun_s >= 0
    if known.wait_s is None:
        assert known.timing is not Timing.OK and known.overrun_s > RATE_TOLERANCE * time_s + GRAIN_S
    else:
        total = sum(phases.values())
        assert known.timing is Timing.OK and known.wait_s >= 0
        assert math.isclose(total + known.wait_s - known.overrun_s, time_s, rel_tol=1e-9, abs_tol=1e-6)


@given(
    time_s=st.floats(0.1, 1e4),
    shares=st.lists(st.floats(0, 0.2), min_size=5, max_size=5),
    drift=st.floats(-5e-4, 5e-4),
)
def test_clocks_that_drift_as_real_ones_do_are_never_accused(time_s: float, shares: list[float], drift: float) -> None:
    phases = {
        phase: share * time_s * (1 + drift) for phase, share in zip(PHASES, shares, strict=True)
    }  # true phases: at most all of the time
    known = account(time_s, phases)
    true_wait_s = time_s * (1 - sum(shares))
    assert known.timing is Timing.OK and known.wait_s is not None
    assert abs(known.wait_s - max(0.0, true_wait_s)) <= 5e-4 * time_s + 1e-9

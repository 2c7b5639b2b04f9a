"""The time of one device's round by phase: two clocks, durations only; no timestamp ever crosses the wire.

The parent measures `time_s`, from assignment pushed to update accepted, on its own clock. The device measures its
phases on its own clock. Phases are parts of that time and do not overlap, so the rest is waiting: messages under way,
queues, reconnects, a device that slept. An offset between the clocks cannot matter. A difference in rate can, but
crystals differ by some 0.01 %, far less than the precision needed, so nothing is scaled. Phases that cannot fit are
reported.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fedcore.core.text_enum import TextEnum

RATE_TOLERANCE = 0.01  # of time_s: twenty times as much as NTP may slew a clock (500 ppm)
GRAIN_S = 0.01  # coarse clocks and rounding


class Timing(TextEnum):
    """Whether a device's phases explain its time."""

    OK = "ok"  # they fit into it
    REPUSHED = "repushed"  # they do not fit: some lie before the last push, under an earlier parent
    CLOCK = "clock"  # they do not fit, and cannot be right


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One device's time as accounted for by two clocks.

    `wait_s` is None where the phases do not fit; `overrun_s` >= 0 is by how much they exceed the time, even
    within the tolerance.
    """

    timing: Timing
    wait_s: float | None
    overrun_s: float


def account(time_s: float, phase_s: Mapping[str, float], *, repushed: bool = False) -> Account:
    """Return the account of `time_s` (seconds, >= 0) and the phases (seconds, >= 0).

    `repushed` says that the assignment was pushed again after the device had begun it.
    """
    total_s = sum(phase_s.values())  # may be inf, and must not raise: a device may report anything
    overrun_s = max(0.0, total_s - time_s)
    if overrun_s <= RATE_TOLERANCE * time_s + GRAIN_S:
        return Account(timing=Timing.OK, wait_s=max(0.0, time_s - total_s), overrun_s=overrun_s)
    timing = Timing.REPUSHED if repushed else Timing.CLOCK
    return Account(timing=timing, wait_s=None, overrun_s=overrun_s)

"""Which cases a run measures, in which order: what is compared is measured one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.data_plane.case import Case

KB, MB = 1_000, 1_000_000
SECTIONS = ("ours", "raw", "flwr", "idle")
FLEETS = (
    *((devices, size) for size in (KB, 10 * MB) for devices in (2, 10, 50)),
    *((devices, 100 * MB) for devices in (2, 10, 50)),
    (2, 500 * MB),
)
QUICK_FLEETS = ((2, KB), (2, 10 * MB))
FLWR_FLEETS = ((2, KB), (10, KB), (10, 100 * MB))
IDLE = Case(devices=1000, payload_bytes=KB, rounds=10, cohort=100)
IDLE_PROCESSES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One row to come: `section` says by what."""

    section: str  # "ours", "raw_grpc", "raw_socket", "flwr" or "idle"
    case: Case


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What the flags select; empty selections are everything."""

    sections: Sequence[str] = ()
    devices: Sequence[int] = ()
    payloads: Sequence[int] = ()  # bytes
    tiers: Sequence[int] = ()
    tls: Sequence[bool] = ()
    rounds: int = 0
    quick: bool = False


def planned(choice: Choice) -> list[Measurement]:
    """Return the measurements in their order: per fleet ours, the limits, then flwr; the idle fleet last."""
    sections = choice.sections or (("ours", "raw") if choice.quick else SECTIONS)
    made: list[Measurement] = []
    for devices, size in QUICK_FLEETS if choice.quick else FLEETS:
        if _selected(choice.devices, devices) and _selected(choice.payloads, size):
            made += _of_fleet(
                Case(devices=devices, payload_bytes=size, rounds=_rounds(choice, devices, size)), sections, choice
            )
    if "idle" in sections:
        made.append(Measurement(section="idle", case=IDLE))
    return made


def _of_fleet(case: Case, sections: Sequence[str], choice: Choice) -> list[Measurement]:
    made = []
    sides = choice.tls or ((True,) if choice.quick else (True, False))
    tiers = choice.tiers or ((1,) if choice.quick else (1, 2))
    for tls in sides:
        if "ours" in sections:
            made += [Measurement(section="ours", case=replace(case, tls=tls, tiers=tier)) for tier in tiers]
        if "raw" in sections:
            made.append(Measurement(section="raw_grpc", case=replace(case, tls=tls)))
    if "raw" in sections:
        made.append(Measurement(section="raw_socket", case=replace(case, tls=False)))
    if "flwr" in sections and (case.devices, case.payload_bytes) in FLWR_FLEETS:
        rounds = 3 if case.payload_bytes < MB else 2
        made.append(Measurement(section="flwr", case=replace(case, tls=False, rounds=rounds)))
    return made


def _rounds(choice: Choice, devices: int, size: int) -> int:
    if choice.rounds:
        return choice.rounds
    if size < MB:
        return 20 if choice.quick else 40
    return 6 if size <= 10 * MB else 3 if devices * size <= 1000 * MB else 2


def _selected(wanted: Sequence[int], value: int) -> bool:
    return not wanted or value in wanted

"""Unit costs, out of the stored results of other benchmarks. All times are seconds, all sizes bytes unless named MB."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data_plane.processes import MeasurementFailed

MB = 1e6
PAYLOAD_MB = 10.0  # of the data plane's row that bytes are priced by

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RosterCosts:
    """What one coordinator spends where so many devices are registered and `cohort` of them take part."""

    registered: int
    cohort: int
    alive_s: float  # one sign of life
    joined_s: float  # one join
    turn_s: float  # list present devices, plan, close, log and commit


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCosts:
    """What one of each costs, in processor seconds, bytes and MB."""

    join_cpu_s: float  # handshake, description, stream and checks, at the parent
    beat_cpu_s: float  # a sign of life, received and answered
    member_mb: float  # memory of one connected member
    process_mb: float  # memory of a parent without members
    client_round_cpu_s: float  # a parent's part in one device's round, bytes apart
    mb_cpu_s: float  # a parent's part in one MB, down or up: TLS, hash, disk, verify, fold
    update_share: float  # of float32 that an update has once encoded
    roster: tuple[RosterCosts, ...]  # ascending
    event_bytes: float  # per client-round, in events.jsonl
    row_bytes: float  # per client-round, in rounds.csv
    ledger_bytes: float  # per client-round
    state_bytes: float  # per registered device, in every commit
    joined_bytes: float  # per join, in events.jsonl
    leaf_bytes: float  # per counted device, in the one message of an edge's submission

    def alive_s(self, registered: float) -> float:
        """Seconds of the round machine for one sign of life among so many."""
        return self._between("alive_s", registered)

    def joined_s(self, registered: float) -> float:
        """Seconds of the round machine for one join among so many."""
        return self._between("joined_s", registered)

    def seating_s(self, devices: float) -> float:
        """Seconds of the round machine until so many have joined, from an empty registry to a full one."""
        sizes = np.unique([0.0, *(fleet.registered for fleet in self.roster if fleet.registered < devices), devices])
        return float(np.trapezoid([self.joined_s(size) for size in sizes], sizes))

    def turn_s(self, registered: float, cohort: float) -> float:
        """Seconds of one turn: a share per device of the cohort, and a share per registered device."""
        small, large = self.roster[0], self.roster[-1]
        per_member = small.turn_s / small.cohort
        per_registered = max(0.0, large.turn_s - small.turn_s) / (large.registered - small.registered)
        return per_member * cohort + per_registered * registered

    def _between(self, name: str, registered: float) -> float:
        """Interpolate between measured fleets; beyond them cost is taken to grow in proportion."""
        sizes = [fleet.registered for fleet in self.roster]
        values = [float(getattr(fleet, name)) for fleet in self.roster]
        if registered > sizes[-1]:
            return values[-1] * registered / sizes[-1]
        return float(np.interp(registered, sizes, values))


def read_costs(results: Path) -> UnitCosts:
    """Read what `results` holds. Raises MeasurementFailed, naming the command, where a result or a row is missing."""
    members, roster = _rows(results, "membership"), _rows(results, "roster")
    plane, codecs = _rows(results, "data_plane"), _rows(results, "codecs")
    small = _row(plane, "data_plane", kind="ours", devices=50, payload="1 kB", tiers=1, tls=True)
    large = _row(plane, "data_plane", kind="ours", devices=10, payload="10 MB", tiers=1, tls=True)
    client_round = small["coordinator_cpu_s_per_round"] / small["devices"]
    moved = 2 * large["devices"] * PAYLOAD_MB
    last = roster[-1]
    return UnitCosts(
        join_cpu_s=members[-1]["join_cpu_s"],
        beat_cpu_s=members[0]["beat_cpu_s"],
        member_mb=members[-1]["member_mb"],
        process_mb=small["coordinator_idle_mb"],
        client_round_cpu_s=client_round,
        mb_cpu_s=(large["coordinator_cpu_s_per_round"] - large["devices"] * client_round) / moved,
        update_share=_row(codecs, "codecs", codec="bf16+zstd")["of f32"],
        roster=tuple(_roster(row) for row in roster),
        event_bytes=last["event_bytes_per_client_round"],
        row_bytes=last["row_bytes_per_client_round"],
        ledger_bytes=last["ledger_bytes_per_client_round"],
        state_bytes=last["state_bytes_per_device"],
        joined_bytes=last["joined_event_bytes"],
        leaf_bytes=last["leaf_bytes"],
    )


def _roster(row: Row) -> RosterCosts:
    steps = ("roster_s", "plan_s", "close_s", "log_s", "commit_s")
    return RosterCosts(
        registered=row["registered"],
        cohort=row["cohort"],
        alive_s=row["alive_s"],
        joined_s=row["joined_s"],
        turn_s=sum(row[step] for step in steps),
    )


def _rows(results: Path, name: str) -> list[Row]:
    path = results / f"{name}.json"
    if not path.is_file():
        raise MeasurementFailed(f"{path} is missing; measure it: python -m benchmarks.{name} --json")
    return list(json.loads(path.read_text(encoding="utf-8"))["rows"])


def _row(rows: Sequence[Row], name: str, **wanted: Any) -> Row:
    for row in rows:
        if all(row.get(key) == value for key, value in wanted.items()) and not isinstance(row.get("error"), str):
            return row
    raise MeasurementFailed(f"{name} has no row with {wanted}; measure it: python -m benchmarks.{name} --json")

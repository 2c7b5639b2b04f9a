"""One fleet, measured: a real coordinator process, light devices in processes of their own, default durability."""

import dataclasses
import itertools
import json
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.data_plane.case import Case, write_model
from benchmarks.data_plane.device import CERTIFICATE
from benchmarks.data_plane.processes import Crew, MeasurementFailed, cpu_s
from fedcore.server.run.journal import read_events
from fedcore.storage.models.checkpoint import fingerprint
from fedcore.storage.pki.authority import create_authority, issue

START_S = 120.0
SLOWEST_BYTES_PER_S = 5e6  # below this a case counts as hung


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Folders of one case. `devices` stand for other machines: they may lie on a faster disk than the coordinator."""

    root: Path
    devices: Path


def measure(case: Case, place: Place, *, processes: int = 0) -> dict[str, Any]:
    """Run one fleet and return its row; `processes` spreads the devices over so many (0: one each).

    Raises MeasurementFailed where the fleet does not finish, or an update was not counted.
    """
    place.root.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    model, certs, run = place.root / "model", place.root / "certs", place.root / "run"
    write_model(case, model)
    create_authority(certs)
    issue(certs, "coordinator", kind="coordinator")
    issue(certs, CERTIFICATE, kind="class")
    for number in range(case.edges if case.tiers > 1 else 0):
        issue(certs, f"edge-{number}", kind="edge")
    run.mkdir()
    (run / "config.toml").write_text(case.config(model), encoding="utf-8")
    security = ("--certs", str(certs)) if case.tls else ("--insecure",)
    moved = 2 * case.devices * case.payload_bytes * (case.rounds + 1)
    with Crew(place.root / "logs") as crew:
        serve = ("serve", str(run / "config.toml"), "--run-dir", str(run), *security)
        crew.python("coordinator", "fedcore.cli.main", *serve, watch=True)
        endpoint, events = run / "coordinator.json", run / "events.jsonl"
        crew.wait_for(endpoint.is_file, START_S, "the coordinator's start")
        root, pid = _address(endpoint), crew.members["coordinator"].pid
        idle_mb = crew.peak_mb("coordinator")
        targets = [root] if case.tiers == 1 else _edges(crew, case, place, root, security)
        spec = _spec(case, place, certs if case.tls else None)
        shares = _shares([f"{CERTIFICATE}-{number}" for number in range(case.devices)], processes or case.devices)
        for number, names in enumerate(shares):
            path = place.root / f"devices-{number}.json"
            path.write_text(
                json.dumps({**spec, "names": names, "target": targets[number % len(targets)]}), encoding="utf-8"
            )
            crew.python(f"devices-{number}", "benchmarks.data_plane.device", str(path))
        crew.wait_for(lambda: _closed(events) >= 1, START_S + moved / SLOWEST_BYTES_PER_S, "the first round")
        cpu_before = cpu_s(pid)
        limit_s = START_S + moved / SLOWEST_BYTES_PER_S
        crew.wait_for(lambda: _closed(events) > case.rounds, limit_s, "the rounds")
        cpu_used, rounds_mb = cpu_s(pid) - cpu_before, crew.peak_mb("coordinator")
        crew.wait_all(list(crew.members), START_S, "the end of the run")
        peak_mb, anonymous_mb = crew.peak_mb("coordinator"), crew.peak_mb("coordinator", "RssAnon")
        edges = [crew.peak_mb(name) for name in crew.members if name.startswith("edge-")]
        logged = list(read_events(events))
        all_cpu = _cpu_of_rounds(crew, logged)
    return {
        "kind": "ours",
        **case.label(),
        **_rounds(case, logged),
        **_directions(case, Path(spec["trace"])),
        "coordinator_peak_mb": peak_mb,
        "coordinator_rounds_mb": rounds_mb,
        "coordinator_anonymous_mb": anonymous_mb,
        "coordinator_idle_mb": idle_mb,
        "cpu_s_per_round": all_cpu / case.rounds,
        "coordinator_cpu_s_per_round": cpu_used / case.rounds,
        **({"edge_peak_mb": max(edges)} if edges else {}),
        "join_s": _join_s(logged),
        "load_before": round(load, 2),
    }


def _cpu_of_rounds(crew: Crew, events: Sequence[dict[str, Any]]) -> float:
    """Processor time of coordinator, edges and devices from the first round's close to the last one's."""
    closed = [event["t"] for event in events if event["event"] == "round_closed"]
    to_monotonic = time.monotonic() - time.time()
    return crew.cpu_between(closed[0] + to_monotonic, closed[-1] + to_monotonic)


def _edges(crew: Crew, case: Case, place: Place, root: str, security: Sequence[str]) -> list[str]:
    """Start the edges below the coordinator at `root`; return where they listen."""
    names = [f"edge-{number}" for number in range(case.edges)]
    states = {name: place.root / name for name in names}
    for name, state in states.items():
        listen = ("--upstream", root, "--listen", "127.0.0.1:0", "--name", name, "--state", str(state))
        crew.python(name, "fedcore.cli.main", "edge", *listen, *security, watch=True)
    for state in states.values():
        crew.wait_for((state / "edge.json").is_file, START_S, "an edge's start")
    return [_address(state / "edge.json") for state in states.values()]


def _address(path: Path) -> str:
    return str(json.loads(path.read_text(encoding="utf-8"))["address"])


def _spec(case: Case, place: Place, certs: Path | None) -> dict[str, Any]:
    return {
        "certs": str(certs) if certs is not None else "",
        "folder": str(place.devices),
        "model": case.model,
        "fingerprint": dataclasses.asdict(fingerprint(place.root / "model")),
        "trace": str(place.root / "trace.jsonl"),
    }


def _shares(names: Sequence[str], processes: int) -> list[list[str]]:
    return [list(names[number::processes]) for number in range(processes)]


def _closed(events: Path) -> int:
    return events.read_bytes().count(b'"event":"round_closed"') if events.is_file() else 0


def _join_s(events: Iterable[dict[str, Any]]) -> float:
    times = [event["t"] for event in events if event["event"] == "joined"]
    return float(max(times) - min(times))


def _rounds(case: Case, events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    closed = [event for event in events if event["event"] == "round_closed"]
    accepted = sum(event["event"] == "accepted" for event in events)
    expected = len(closed) * (case.cohort or case.devices)
    if accepted != expected:
        raise MeasurementFailed(f"{accepted} of {expected} updates were counted; the figures would be of another fleet")
    seconds = statistics.median(later["t"] - earlier["t"] for earlier, later in itertools.pairwise(closed))
    update = closed[-1]["bytes_up"] / (case.cohort or case.devices)
    moved = closed[-1]["bytes_up"] + closed[-1]["bytes_down"]
    return {
        "rounds": len(closed) - 1,
        "s_per_round": seconds,
        "mb_per_s": 2 * (case.cohort or case.devices) * case.payload_bytes / seconds / 1e6,
        "update_bytes": update,
        "moved_mb_per_round": moved / 1e6,
    }


def _directions(case: Case, trace: Path) -> dict[str, float]:
    """Rates of each direction: bytes over the time from the first device's begin to the last one's end, per round."""
    rounds: dict[int, list[list[float]]] = defaultdict(list)
    for line in trace.read_text(encoding="utf-8").splitlines():
        _, number, *figures = json.loads(line)
        rounds[number].append(figures)
    later = [rows for number, rows in sorted(rounds.items()) if number > min(rounds)]
    down = [_rate(rows, 0, 1, 4) for rows in later]
    up = [_rate(rows, 2, 3, 5) for rows in later]
    make = [statistics.median(row[2] - row[1] for row in rows) for rows in later]
    return {
        "down_mb_per_s": statistics.median(down),
        "up_mb_per_s": statistics.median(up),
        "make_s": statistics.median(make),
    }


def _rate(rows: Sequence[Sequence[float]], begin: int, end: int, size: int) -> float:
    seconds = max(row[end] for row in rows) - min(row[begin] for row in rows)
    return sum(row[size] for row in rows) / seconds / 1e6

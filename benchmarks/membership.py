"""What members cost their parent: python -m benchmarks.membership [--quick] [--json [FILE]]

A real coordinator process with mutual TLS and light devices, one connection each, that join and then only keep their
lease, which is short, so that seconds show what minutes would: processor time per join (handshake, description, stream,
checks, log) and per sign of life (received, noted, answered), and memory per member.
"""

import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.data_plane.case import Case, write_model
from benchmarks.data_plane.device import CERTIFICATE
from benchmarks.data_plane.processes import Crew, cpu_s, memory_mb
from benchmarks.report import emit, parser
from fedcore.server.run.journal import read_events
from fedcore.storage.models.checkpoint import fingerprint
from fedcore.storage.pki.authority import create_authority, issue
from fedcore.transport.parent_connection import BEATS_PER_LEASE

MEMBERS = (250, 1_000)
PROCESSES = 2  # of devices
LEASE_S = 6.0
WATCHED_S = 20.0
START_S = 120.0
PAYLOAD_BYTES = 1_000


def measure(members: int, watched_s: float) -> dict[str, Any]:
    """Return one row: what so many members cost while they come, and while they are only here."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        run, certs = _prepared(root, members)
        with Crew(root / "logs") as crew:
            serve = ("serve", str(run / "config.toml"), "--run-dir", str(run), "--certs", str(certs))
            crew.python("coordinator", "fedcore.cli.main", *serve, watch=True)
            endpoint, pid = run / "coordinator.json", crew.members["coordinator"].pid
            crew.wait_for(endpoint.is_file, START_S, "the coordinator's start")
            cpu_before, memory_before = cpu_s(pid), memory_mb(pid)["RssAnon"]
            _start_devices(crew, root, members, str(json.loads(endpoint.read_text(encoding="utf-8"))["address"]))
            crew.wait_for(lambda: _joined(run) >= members, START_S, "the joins")
            cpu_joined = cpu_s(pid)
            time.sleep(watched_s)
            crew.check()
            cpu_watched, memory_after = cpu_s(pid), memory_mb(pid)["RssAnon"]
        times = [event["t"] for event in read_events(run / "events.jsonl") if event["event"] == "joined"]
    beats = members * BEATS_PER_LEASE * watched_s / LEASE_S
    return {
        "members": members,
        "join_wall_s": (max(times) - min(times)) / members,
        "join_cpu_s": (cpu_joined - cpu_before) / members,
        "beat_cpu_s": (cpu_watched - cpu_joined) / beats,
        "member_mb": (memory_after - memory_before) / members,
        "load_after": round(os.getloadavg()[0], 2),
    }


def _prepared(root: Path, members: int) -> tuple[Path, Path]:
    """Write model, certificates and a run that waits for one device more than comes."""
    case = Case(devices=members + 1, payload_bytes=PAYLOAD_BYTES, rounds=1)
    run, certs = root / "run", root / "certs"
    write_model(case, root / "model")
    create_authority(certs)
    issue(certs, "coordinator", kind="coordinator")
    issue(certs, CERTIFICATE, kind="class")
    run.mkdir()
    text = case.config(root / "model").replace("[coordinator]", f"[coordinator]\nlease_s = {LEASE_S}")
    (run / "config.toml").write_text(text, encoding="utf-8")
    return run, certs


def _start_devices(crew: Crew, root: Path, members: int, target: str) -> None:
    case = Case(devices=members, payload_bytes=PAYLOAD_BYTES, rounds=1)
    spec: Mapping[str, Any] = {
        "certs": str(root / "certs"),
        "folder": str(root / "devices"),
        "model": case.model,
        "fingerprint": dataclasses.asdict(fingerprint(root / "model")),
        "trace": str(root / "trace.jsonl"),
        "target": target,
    }
    names = [f"{CERTIFICATE}-{number}" for number in range(members)]
    for number in range(PROCESSES):
        path = root / f"devices-{number}.json"
        path.write_text(json.dumps({**spec, "names": names[number::PROCESSES]}), encoding="utf-8")
        crew.python(f"devices-{number}", "benchmarks.data_plane.device", str(path))


def _joined(run: Path) -> int:
    events = run / "events.jsonl"
    return events.read_bytes().count(b'"event":"joined"') if events.is_file() else 0


def main() -> None:
    """Measure every fleet and report."""
    arguments = parser("membership", "What members cost their parent.").parse_args()
    rows = [measure(members, WATCHED_S / 2 if arguments.quick else WATCHED_S) for members in MEMBERS]
    notes = {
        "tls": "mutual, one connection per device",
        "lease": f"{LEASE_S:g} s, {BEATS_PER_LEASE} signs of life in each",
        "join_cpu_s, beat_cpu_s": "processor seconds of the coordinator's process alone",
        "join_wall_s": "first to last joined, per member; the devices do their half on the same two cores",
        "member_mb": "anonymous memory per member, MB",
    }
    emit("membership", rows, arguments, notes=notes)


if __name__ == "__main__":
    main()

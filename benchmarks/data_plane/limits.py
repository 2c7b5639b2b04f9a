"""Rows of what the machine can do: the same bytes, the same number of client processes, nothing done with them."""

import itertools
import json
import os
import statistics
from pathlib import Path
from typing import Any, Literal

from benchmarks.data_plane.case import Case
from benchmarks.data_plane.device import CERTIFICATE
from benchmarks.data_plane.processes import Crew
from fedcore.storage.pki.authority import create_authority, issue

START_S = 60.0
SLOWEST_BYTES_PER_S = 20e6


def measure(case: Case, kind: Literal["raw_grpc", "raw_socket"], root: Path) -> dict[str, Any]:
    """Run bare streams of `case` and return their row; raises MeasurementFailed where they do not finish."""
    root.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    certs = root / "certs"
    if case.tls:
        create_authority(certs)
        issue(certs, "coordinator", kind="coordinator")
        issue(certs, CERTIFICATE, kind="class")
    rounds = case.rounds + 1  # the first one is not counted, as in a fleet
    endpoint, result, path = root / "endpoint", root / "result.json", root / "spec.json"
    spec = {
        "devices": case.devices,
        "payload_bytes": case.payload_bytes,
        "rounds": rounds,
        "certs": str(certs) if case.tls else "",
        "endpoint": str(endpoint),
        "result": str(result),
    }
    path.write_text(json.dumps(spec), encoding="utf-8")
    module = f"benchmarks.data_plane.{kind}"
    limit_s = START_S + 2 * case.devices * case.payload_bytes * rounds / SLOWEST_BYTES_PER_S
    with Crew(root / "logs") as crew:
        crew.python("server", module, "server", str(path), watch=True)
        crew.wait_for(endpoint.is_file, START_S, "the server's start")
        for number in range(case.devices):
            crew.python(f"client-{number}", module, "client", str(path))
        crew.wait_all(list(crew.members), limit_s, "the rounds")
        peak_mb = crew.peak_mb("server")
        met = json.loads(result.read_text(encoding="utf-8"))
        cpu_used = crew.cpu_between(met[1], met[-1])
    seconds = statistics.median(later - earlier for earlier, later in itertools.pairwise(met[1:]))
    return {
        "kind": kind,
        **case.label(),
        "rounds": case.rounds,
        "s_per_round": seconds,
        "mb_per_s": 2 * case.devices * case.payload_bytes / seconds / 1e6,
        "cpu_s_per_round": cpu_used / case.rounds,
        "coordinator_peak_mb": peak_mb,
        "load_before": round(load, 2),
    }

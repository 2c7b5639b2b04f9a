"""The same exchange on flwr: a real SuperLink, SuperNodes and a ServerApp with FedAvg, on loopback, without TLS.

Its local deployment as documented: `flower-superlink --insecure`, `flower-supernode --insecure`, `flwr run`. Nothing is
installed or reported anywhere; all its files lie in the case's folder.
"""

import itertools
import json
import os
import socket
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.data_plane.case import Case
from benchmarks.data_plane.processes import Crew, MeasurementFailed

APP = Path(__file__).with_name("flower_app")
CONNECTION = "measured"
START_S = 120.0
ROUND_S = 60.0  # an empty round takes it 6 to 16 s here
SLOWEST_BYTES_PER_S = 5e6
SWITCHES = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}


def measure(case: Case, root: Path) -> dict[str, Any]:
    """Run `case.rounds` + 1 rounds on flwr and return the row; the first round is not counted.

    Raises MeasurementFailed where it does not finish.
    """
    root.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    programs, home, times = Path(sys.executable).parent, root / "home", root / "times.json"
    port, *node_ports = _free_ports(1 + case.devices)
    home.mkdir()
    connection = f'[superlink.{CONNECTION}]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    (home / "config.toml").write_text(f'[superlink]\ndefault = "{CONNECTION}"\n\n{connection}', encoding="utf-8")
    path = f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"
    limit_s = START_S + (case.rounds + 1) * (ROUND_S + 2 * case.devices * case.payload_bytes / SLOWEST_BYTES_PER_S)
    with Crew(root / "logs", {**SWITCHES, "FLWR_HOME": str(home), "PATH": path}) as crew:
        crew.start("superlink", [str(programs / "flower-superlink"), "--insecure", "--port", str(port)], watch=True)
        crew.wait_for(lambda: _answers(port), START_S, "the SuperLink's start")
        for number, node_port in enumerate(node_ports):
            node = [str(programs / "flower-supernode"), "--insecure", "--superlink", f"127.0.0.1:{port}"]
            crew.start(f"supernode-{number}", [*node, "--port", str(node_port)], watch=number == 0)
        figures = f"payload-bytes={case.payload_bytes} nodes={case.devices} rounds={case.rounds + 1} times='{times}'"
        crew.start("run", [str(programs / "flwr"), "run", str(APP), CONNECTION, "--run-config", figures])
        crew.wait_for(lambda: _over(crew, times), limit_s, "flwr's rounds", every_s=0.5)
        peak_mb, app_mb, node_mb = crew.peak_mb("superlink"), crew.peak_of("serverapp"), crew.peak_mb("supernode-0")
    ended = json.loads(times.read_text(encoding="utf-8"))
    gaps = [later - earlier for earlier, later in itertools.pairwise(ended)][1:]
    if len(gaps) != case.rounds:
        raise MeasurementFailed(f"flwr ended {len(gaps)} of {case.rounds} rounds")
    seconds = statistics.median(gaps)
    return {
        "kind": "flwr",
        **case.label(),
        "rounds": case.rounds,
        "s_per_round": seconds,
        "mb_per_s": 2 * case.devices * case.payload_bytes / seconds / 1e6,
        "coordinator_peak_mb": peak_mb,
        "serverapp_peak_mb": app_mb,
        "supernode_peak_mb": node_mb,
        "load_before": round(load, 2),
    }


def _over(crew: Crew, times: Path) -> bool:
    crew.watch_everything()
    return times.is_file()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False


def _free_ports(count: int) -> list[int]:
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(server.getsockname()[1]) for server in servers]
    for server in servers:
        server.close()
    return ports

"""What the data plane moves: python -m benchmarks.data_plane [--quick] [--json [FILE]] [--only SECTION ...]

Fleets of a real coordinator and light devices as separate processes, the same bytes over bare gRPC and TCP, the same
exchange on flwr, and a thousand idle devices. A whole run takes about 25 minutes; sections and cases can be chosen, and
--merge keeps the rows of an earlier result that this run does not measure.
"""

import argparse
import os
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.data_plane import flower, limits, ours
from benchmarks.data_plane.plan import IDLE_PROCESSES, SECTIONS, Choice, Measurement, planned
from benchmarks.data_plane.processes import MeasurementFailed
from benchmarks.data_plane.rows import SHOWN, Row, merged, stored, with_ratios
from benchmarks.report import emit, parser

NOTES = {
    "goal overhead": "median of an empty 10-device round <= 20 ms and >= 200 times less than flwr's",
    "goal throughput": "10 x 100 MB: >= 10 times flwr's, >= 684 MB/s (3 x NVFlare's 228), >= 50 % of bare grpc.aio",
    "goal memory": "10 x 100 MB: coordinator peak <= 250 MB + 2 x model, within 10 % of that at 50 devices",
    "goal tiers": "two tiers add <= 20 ms to an empty round",
    "s_per_round": "median time from one round's close to the next, the first round left out",
    "mb_per_s": "2 x devices x payload / s_per_round, MB = 10**6 bytes",
    "down, up": "bytes of one direction over the time from the first device's begin to the last one's end",
    "coordinator_peak_mb": "VmHWM to the end of the process; page cache of mapped files counts while it is mapped",
    "devices": "one process each; fetch, verify, build, hash, store, upload; they do not decode or train",
    "idle": f"{IDLE_PROCESSES} processes share the devices, one link and one TCP connection per device",
    "flwr": "SuperLink, SuperNodes and ServerApp on loopback without TLS, FedAvg, no evaluation",
}


def main() -> None:
    """Measure what the flags select and report; a case that fails becomes a row with its error."""
    arguments = _parser().parse_args()
    run = datetime.now(timezone.utc).isoformat(timespec="seconds")
    fresh: list[Row] = []
    for number, measurement in enumerate(plan := planned(_choice(arguments)), start=1):
        print(f"[{number}/{len(plan)}] {measurement.section} {measurement.case.label()}", flush=True)
        fresh.append({**_measured(measurement), "run": run})
        print("   ", _line(fresh[-1]), flush=True)
    before = stored(arguments.json) if arguments.merge and arguments.json is not None else []
    emit("data_plane", with_ratios(merged(before, fresh)), arguments, notes=NOTES, shown=SHOWN)


def _measured(measurement: Measurement) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        root, begin = Path(folder), time.monotonic()
        try:
            row = _measure(measurement, root)
        except MeasurementFailed as error:
            row = {"kind": measurement.section, **measurement.case.label(), "error": str(error)}
        return {**row, "measured_s": round(time.monotonic() - begin, 1), "load_after": round(os.getloadavg()[0], 2)}


def _measure(measurement: Measurement, root: Path) -> Row:
    case = measurement.case
    match measurement.section:
        case "raw_grpc" | "raw_socket" as kind:
            return limits.measure(case, kind, root)
        case "flwr":
            return flower.measure(case, root)
        case "idle":
            row = ours.measure(case, ours.Place(root=root, devices=root / "devices"), processes=IDLE_PROCESSES)
            return {**row, "kind": "idle", "cohort": case.cohort}
        case _:
            return ours.measure(case, ours.Place(root=root, devices=root / "devices"))


def _parser() -> argparse.ArgumentParser:
    made = parser("data_plane", "What the data plane moves, against bare gRPC, TCP and flwr.")
    made.add_argument("--only", choices=SECTIONS, action="append", default=[], help="a section; may be repeated")
    made.add_argument("--devices", type=int, action="append", default=[], help="fleets of this size; may be repeated")
    made.add_argument(
        "--payload", type=_size, action="append", default=[], help="1kB, 10MB, 100MB or 500MB; may be repeated"
    )
    made.add_argument("--tiers", type=int, choices=(1, 2), action="append", default=[], help="1 flat, 2 with edges")
    made.add_argument("--tls", choices=("on", "off"), action="append", default=[], help="default: both")
    made.add_argument("--rounds", type=int, default=0, help="measured rounds per case, in place of the plan's")
    made.add_argument("--merge", action="store_true", help="keep other rows of the --json file")
    return made


def _choice(arguments: argparse.Namespace) -> Choice:
    return Choice(
        sections=arguments.only,
        devices=arguments.devices,
        payloads=arguments.payload,
        tiers=arguments.tiers,
        tls=[value == "on" for value in arguments.tls],
        rounds=arguments.rounds,
        quick=arguments.quick,
    )


def _size(text: str) -> int:
    for unit, factor in (("kB", 1_000), ("MB", 1_000_000)):
        if text.endswith(unit):
            return round(float(text.removesuffix(unit)) * factor)
    raise argparse.ArgumentTypeError(f"expected a size such as 1kB or 100MB, got {text!r}")


def _line(row: Row) -> str:
    if "error" in row:
        return str(row["error"]).splitlines()[0]
    return f"{row['s_per_round']:.4g} s per round, {row['mb_per_s']:.4g} MB/s, peak {row['coordinator_peak_mb']:.0f} MB"


if __name__ == "__main__":
    main()

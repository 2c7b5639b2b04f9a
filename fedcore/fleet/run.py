"""Run a whole fleet: start the coordinator, the edges, the evaluator and the devices, and watch them until the end."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fedcore.core.config.tables import Config
from fedcore.core.contract.protocols import Json
from fedcore.core.data.partition import partition_seed
from fedcore.core.errors import RunError
from fedcore.fleet.edges import Tree, listening_at, start_edges
from fedcore.fleet.processes import Processes
from fedcore.fleet.tiers import tier_names
from fedcore.fleet.view import View
from fedcore.fleet.watch import COORDINATOR, EVALUATOR, Crew, watch
from fedcore.server.run.run_folder import RunFolder
from fedcore.storage.pki.authority import create_authority, issue


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOptions:
    """Options of a fleet that are not in its configuration."""

    reference: bool
    metrics: str = ""  # HOST:PORT where the coordinator serves Prometheus metrics; empty: nowhere


def run_fleet(folder: RunFolder, config: Config, options: FleetOptions, view: View) -> Json:
    """Run a fleet from its beginning, or from the last closed round in its ledger, and return the summary.

    `config` has passed `fedcore.fleet.preflight.checked`. Raises RunError where the coordinator ends early or too few
    devices are left, and KeyboardInterrupt on Ctrl-C; both stop every process first.
    """
    _certificates(folder, config)
    with Processes(folder.logs) as processes:
        coordinator = processes.start(COORDINATOR, _serve_arguments(folder, options))
        try:
            address = listening_at(folder.endpoint, coordinator)
            tree = start_edges(folder, config.fleet.edges, processes, address)
            children = {name: processes.start(name, arguments) for name, arguments in _members(folder, config, tree)}
            crew = Crew(config=config, coordinator=coordinator, members=children, edges=tree.children)
            watch(folder, crew, view)
        finally:
            processes.stop(first=coordinator)
    if coordinator.failed or not folder.summary.is_file():
        raise RunError(f"{coordinator.last_words()}; go on with: fedcore fleet --resume {folder.root}")
    summary: Json = json.loads(folder.summary.read_text())
    return summary


def _certificates(folder: RunFolder, config: Config) -> None:
    """Make what is missing of the fleet's own authority and one certificate per process."""
    certs = folder.certificates
    if not (certs / "ca.pem").is_file():
        create_authority(certs)
    processes = [(COORDINATOR, "coordinator"), (EVALUATOR, "evaluator")]
    processes += [(name, "device") for name, _ in config.devices()]
    processes += [(name, "edge") for names in tier_names(config.fleet.edges) for name in names]
    for name, kind in processes:
        if not (certs / f"{name}.pem").is_file():
            issue(certs, name, kind=kind)  # type: ignore[arg-type]


def _serve_arguments(folder: RunFolder, options: FleetOptions) -> list[str]:
    has_begun = folder.ledger.is_file()
    source = ["--resume", str(folder.root)] if has_begun else [str(folder.config), "--run-dir", str(folder.root)]
    reference = ["--reference"] if options.reference else []
    metrics = ["--metrics", options.metrics] if options.metrics else []
    return ["serve", *source, "--await-evaluator", "--certs", str(folder.certificates), *reference, *metrics]


def _members(folder: RunFolder, config: Config, tree: Tree) -> Iterator[tuple[str, Sequence[str]]]:
    common = ["--certs", str(folder.certificates), "--model", config.model.path]
    data = ["--data", config.data.train, "--label", config.data.label]
    data += [part for column in config.data.text_columns for part in ("--text", column)]
    data += ["--test-fraction", str(config.data.test_fraction)]
    if config.data.test:
        data += ["--test", config.data.test]
    devices = list(config.devices())
    shards = config.data.shards or len(devices)
    state = folder.devices
    yield (
        EVALUATOR,
        [
            "join",
            tree.addresses[COORDINATOR],
            *common,
            "--role",
            "evaluator",
            "--name",
            EVALUATOR,
            "--state",
            str(state / EVALUATOR),
            *data,
        ],
    )
    for index, (name, device_class) in enumerate(devices, start=1):
        limits = ["--slowdown", device_class.slowdown, "--memory-mb", device_class.memory_mb]
        limits += ["--uplink-mbps", device_class.uplink_mbps, "--downlink-mbps", device_class.downlink_mbps]
        limits += ["--network", device_class.network] if device_class.network else []
        part = ["--shard", f"{index}/{shards}", "--partition", config.data.partition]
        part += ["--alpha", str(config.data.alpha), "--seed", str(partition_seed(config.run.seed))]
        yield (
            name,
            [
                *("join", tree.targets(index - 1), *common),
                *("--name", name, "--class", device_class.name, "--state", str(state / name)),
                *data,
                *part,
                *map(str, limits),
            ],
        )

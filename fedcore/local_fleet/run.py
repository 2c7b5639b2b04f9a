"""Run a whole fleet: start the coordinator, the edges, the evaluator and the devices, and watch them until the end."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fedcore.core.config.fleet import ClassConfig
from fedcore.core.config.tables import Config
from fedcore.core.contract.protocols import Json
from fedcore.core.data.partition import partition_seed
from fedcore.core.errors import RunError
from fedcore.local_fleet.edges import Tree, listening_at, start_edges
from fedcore.local_fleet.preflight import member_devices
from fedcore.local_fleet.processes import Processes
from fedcore.local_fleet.tiers import tier_names
from fedcore.local_fleet.view import View
from fedcore.local_fleet.watch import COORDINATOR, EVALUATOR, Crew, watch
from fedcore.server.run.run_folder import RunFolder
from fedcore.storage.json_file import read_object
from fedcore.storage.pki.authority import create_authority, issue


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOptions:
    """Options of a fleet that are not in its configuration."""

    reference: bool
    metrics: str = ""  # HOST:PORT where the coordinator answers Prometheus; empty: nowhere
    accelerators: tuple[str, ...] = ()  # of this machine, as PyTorch calls them
    plugins: tuple[str, ...] = ()  # modules that coordinator and edges import, by name or absolute path

    @property
    def plugin_words(self) -> list[str]:
        """The plugins as a command line names them."""
        return [word for plugin in self.plugins for word in ("--plugin", plugin)]


def run_fleet(folder: RunFolder, config: Config, options: FleetOptions, view: View) -> Json:
    """Run a fleet from its beginning, or from the last closed round in its ledger, and return the summary.

    `config` has passed `fedcore.local_fleet.preflight.checked`. Raises RunError where the coordinator ended early or
    too few devices are left, KeyboardInterrupt (everything stopped) on Ctrl-C.
    """
    _certificates(folder, config)
    causes = ""
    with Processes(folder.logs) as processes:
        coordinator = processes.start(COORDINATOR, _serve_arguments(folder, options))
        try:
            address = listening_at(folder.endpoint, coordinator)
            tree = start_edges(folder, config.fleet.edges, processes, address, options.plugin_words)
            children = {name: processes.start(name, words) for name, words in _members(folder, config, options, tree)}
            crew = Crew(config=config, coordinator=coordinator, members=children, edges=tree.children)
            watch(folder, crew, view)
            causes = crew.causes()  # before all are told to stop, and say so
        finally:
            processes.stop(first=coordinator)
    if coordinator.failed or not folder.summary.is_file():
        onward = " ".join(["; go on with: fedcore fleet --resume", str(folder.root), *options.plugin_words])
        raise RunError(f"{coordinator.last_words()}{causes}{onward if folder.has_begun else ''}")
    return read_object(folder.summary, remedy=f"look at the run with: fedcore show {folder.root}")


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
    extra = [*reference, *metrics, *options.plugin_words]
    return ["serve", *source, "--await-evaluator", "--certs", str(folder.certificates), *extra]


def _members(
    folder: RunFolder, config: Config, options: FleetOptions, tree: Tree
) -> Iterator[tuple[str, Sequence[str]]]:
    common = ["--certs", str(folder.certificates), "--model", config.model.path]
    data = ["--data", config.data.train, "--label", config.data.label]
    data += [part for column in config.data.text_columns for part in ("--text", column)]
    data += ["--test-fraction", str(config.data.test_fraction), "--task", config.task.kind]
    if config.data.test:
        data += ["--test", config.data.test]
    devices = list(config.devices())
    shards = config.data.shards or len(devices)
    state = folder.devices
    *places, measuring_place = member_devices(config, options.accelerators)
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
            "--device",
            measuring_place,
            *(("--metric", config.task.metric) if config.task.metric else ()),
            *data,
        ],
    )
    for index, (name, device_class) in enumerate(devices, start=1):
        place = ["--device", places[index - 1]]
        limits: list[object] = ["--slowdown", device_class.slowdown]
        limits += ["--memory-mb", _memory_words(device_class, places[index - 1], places)]
        limits += ["--uplink-mbps", device_class.uplink_mbps, "--downlink-mbps", device_class.downlink_mbps]
        limits += ["--network", device_class.network] if device_class.network else []
        limits += ["--precision", device_class.precision] if device_class.precision else []
        part = ["--shard", f"{index}/{shards}", "--partition", config.data.partition]
        part += ["--alpha", str(config.data.alpha), "--seed", str(partition_seed(config.run.seed))]
        yield (
            name,
            [
                *("join", tree.targets(index - 1), *common),
                *("--name", name, "--class", device_class.name, "--state", str(state / name)),
                *data,
                *(("--replay", config.data.replay) if config.data.replay else ()),
                *part,
                *place,
                *map(str, limits),
            ],
        )


def _memory_words(kind: ClassConfig, place: str, places: Sequence[str]) -> str:
    """Return a device's limit as `join` takes it; "auto" is an equal share of what is free where it trains."""
    return f"auto/{places.count(place)}" if kind.memory_mb is None else str(kind.memory_mb)

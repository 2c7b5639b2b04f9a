"""fedcore join"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from fedcore.cli.console.settings import (
    CertsOption,
    DeviceOption,
    InsecureOption,
    addresses,
    finite_seconds,
    tls_material,
)
from fedcore.cli.console.steady_output import keep_going_without_output
from fedcore.cli.identity.enrolling import EnrolAtOption, TokenFileOption, TokenOption, enrol_first, given_token
from fedcore.core.config.tables import PARTITION
from fedcore.core.contract.profile import check_name, check_network
from fedcore.core.errors import ConfigError
from fedcore.storage.places import home_folder

RUN = "The run"
DATA = "Private data"
EMULATION = "Limits, to emulate a lesser device"
AUTO = "auto"


def _partition(value: str) -> str:
    try:
        PARTITION.check("--partition", value)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from None
    return value


def join(
    target: Annotated[
        str,
        typer.Argument(metavar="HOST:PORT[,...]", help="The coordinator, or several parents to try, best first."),
    ],
    name: Annotated[
        str,
        typer.Option("--name", help="This device's name: a-z, 0-9 and '-'; auto: the next free CLASS-N below --state."),
    ],
    data: Annotated[
        str,
        typer.Option("--data", help="Rows: CSV, TSV, JSONL, Parquet, a hub id, or fetch:NAME.", rich_help_panel=DATA),
    ],
    device_class: Annotated[str, typer.Option("--class", help="Device class.", rich_help_panel=RUN)] = "default",
    network: Annotated[
        str,
        typer.Option(
            "--network", metavar="NAME", help="Network class for the reports, such as 5g or wifi.", rich_help_panel=RUN
        ),
    ] = "",
    role: Annotated[
        Literal["device", "evaluator"],
        typer.Option("--role", help="device trains; evaluator measures and exports.", rich_help_panel=RUN),
    ] = "device",
    certs: CertsOption = None,
    identity: Annotated[
        str | None,
        typer.Option(
            "--identity", metavar="NAME", help="Certificate in --certs to show, such as a class's; default --name."
        ),
    ] = None,
    insecure: InsecureOption = False,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
    enrol_at: EnrolAtOption = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="Base model folder; default: fetch the coordinator's.", rich_help_panel=RUN),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            "--state",
            metavar="DIR",
            help="Folder for this device's state; default ~/.fedcore/NAME, with --name auto ~/.fedcore.",
            rich_help_panel=RUN,
        ),
    ] = None,
    device: DeviceOption = AUTO,
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"] | None,
        typer.Option("--precision", help="In which it trains; default: as the run says.", rich_help_panel=RUN),
    ] = None,
    metric: Annotated[
        str,
        typer.Option(
            "--metric", help="Let the run call this module:function on an evaluator (task.metric).", rich_help_panel=RUN
        ),
    ] = "",
    reconnect_s: Annotated[
        float,
        typer.Option(
            "--reconnect-s",
            callback=finite_seconds,
            help="Give up if every parent stays unreachable for so long.",
            rich_help_panel=RUN,
        ),
    ] = 300.0,
    alive: Annotated[
        Path | None,
        typer.Option(
            "--alive",
            metavar="FILE",
            help="Touch this file while a parent answers, for fedcore health.",
            rich_help_panel=RUN,
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", help="Text column; give it twice for pair tasks; default text.", rich_help_panel=DATA),
    ] = None,
    label: Annotated[
        str, typer.Option("--label", help="Column of labels, or of answers; '' for none.", rich_help_panel=DATA)
    ] = "label",
    task: Annotated[
        str,
        typer.Option(
            "--task",
            help="What the rows are for, the run's task.kind: generation reads prompts with answers, chats, or texts; "
            "auto goes by their columns.",
            rich_help_panel=DATA,
        ),
    ] = AUTO,
    test: Annotated[
        str | None, typer.Option("--test", help="Held-back rows; default: a part of --data.", rich_help_panel=DATA)
    ] = None,
    test_fraction: Annotated[
        float,
        typer.Option(
            "--test-fraction",
            help="Fraction of --data to hold back, by text hash, without --test.",
            rich_help_panel=DATA,
        ),
    ] = 0.0,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="I/N",
            help="Use only part I of N of --data; auto: the coordinator assigns the part.",
            rich_help_panel=DATA,
        ),
    ] = None,
    partition: Annotated[
        str,
        typer.Option(
            "--partition",
            help="How the rows are cut into parts: dirichlet, one-label, length, iid, by:COLUMN or dirichlet:COLUMN.",
            callback=_partition,
            rich_help_panel=DATA,
        ),
    ] = "dirichlet",
    alpha: Annotated[
        float,
        typer.Option("--alpha", help="Dirichlet concentration; small is more skewed.", rich_help_panel=DATA),
    ] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the cut.", rich_help_panel=DATA)] = 0,
    replay: Annotated[
        str,
        typer.Option(
            "--replay",
            metavar="FILE",
            help="General texts, in a column text, that a model which writes trains on too, if the run replays any.",
            rich_help_panel=DATA,
        ),
    ] = "",
    slowdown: Annotated[
        float,
        typer.Option("--slowdown", help="Emulate a device that is so many times slower.", rich_help_panel=EMULATION),
    ] = 1.0,
    memory_mb: Annotated[
        str,
        typer.Option(
            "--memory-mb",
            metavar="MIB|auto",
            help="Training memory, MiB; 0 is no limit; auto: what is free where it trains, auto/3 a third of that.",
            rich_help_panel=EMULATION,
        ),
    ] = "0",
    uplink_mbps: Annotated[
        float, typer.Option("--uplink-mbps", help="Uplink, Mbit/s; 0 is no limit.", rich_help_panel=EMULATION)
    ] = 0.0,
    downlink_mbps: Annotated[
        float, typer.Option("--downlink-mbps", help="Downlink, Mbit/s; 0 is no limit.", rich_help_panel=EMULATION)
    ] = 0.0,
) -> None:
    """Join a run as a device (or as its evaluator) until the run ends; reconnect after interruptions.

    Rows never leave this machine; updates of the adapter do. Example:
    fedcore join coord.example:8443 --name cam-1 --class jetson --data rows.csv --certs certs

    For replicas, such as containers that share a volume, use --name auto --shard auto: each gets its own name and rows.
    """
    from fedcore.local_fleet.client_extra import require_client

    if name == AUTO and role == "evaluator":
        raise ConfigError("--name auto is for devices; give the evaluator a name")
    check_name(name)
    check_name(device_class, "device class")
    check_network(network)
    targets = addresses(target, "coordinator address")
    require_client("fedcore join")
    from fedcore.client.device.replica import claim_replica
    from fedcore.client.device.run import run_device, run_evaluator
    from fedcore.client.options import ClientOptions, DataOptions, DeviceLimits, parse_memory, parse_shard
    from fedcore.storage.folder_lock import FolderLock
    from fedcore.storage.models.model_source import model_folder
    from fedcore.storage.process.interrupt import run_to_end

    budget_mb, sharers = parse_memory(memory_mb)
    keep_going_without_output()
    if state is None:
        state = home_folder("give --state DIR") / ".fedcore" / ("" if name == AUTO else name)
    replica = claim_replica(state, device_class) if name == AUTO else None
    if replica is not None:
        name, state, lock = replica.name, replica.folder, replica.lock
    else:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FolderLock(state, role=role, remedy="--state")
    own_certificate = identity or name
    fitting = (f"evaluator:{name}",) if role == "evaluator" else (f"device:{name}", f"class:{device_class}")
    join_token = given_token(token, token_file)
    enrol_first(join_token, enrol_at, certs, own_certificate, fitting=fitting, wait_s=reconnect_s)
    options = ClientOptions(
        targets=targets,
        name=name,
        tls=tls_material(certs, own_certificate, insecure),
        model=None if model is None else model_folder(model),
        data=DataOptions(
            train=data,
            test=test,
            text=tuple(text or ["text"]),
            label=label,
            test_fraction=test_fraction,
            shard=None if shard in (None, AUTO) else parse_shard(shard),
            ask_shard=shard == AUTO,
            partition=partition,
            alpha=alpha,
            seed=seed,
            replay=replay,
            task=task,
        ),
        state=state,
        reconnect_s=reconnect_s,
        say=lambda message: typer.echo(f"{name}: {message}"),
        alive=alive,
        device=device,
        precision=precision or "",
        metric=metric,
    )
    limits = DeviceLimits(
        device_class=device_class,
        slowdown=slowdown,
        memory_mb=budget_mb,
        memory_sharers=sharers,
        uplink_mbps=uplink_mbps,
        downlink_mbps=downlink_mbps,
        network=network,
    )
    work = run_evaluator(options) if role == "evaluator" else run_device(options, limits)
    try:
        typer.echo(f"{name}: {run_to_end(work)}")
    finally:
        lock.release()

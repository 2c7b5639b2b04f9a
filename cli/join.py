"""fedcore join"""

from pathlib import Path
from typing import Annotated

import typer

from cli.settings import CertsOption, InsecureOption, tls_material
from client.options import ClientOptions, DataOptions, DeviceLimits, parse_shard
from client.run import run_device, run_evaluator, run_to_end
from fedcore.errors import ConfigError
from fedcore.profile import check_name
from protos.values import Role
from storage.model_source import model_folder


def join(
    target: Annotated[str, typer.Argument(metavar="HOST:PORT", help="The coordinator.")],
    name: Annotated[str, typer.Option("--name", help="This device's name: a-z, 0-9 and '-'.")],
    data: Annotated[str, typer.Option("--data", help="Training rows: CSV, TSV, JSONL, Parquet, or a hub id.")],
    device_class: Annotated[str, typer.Option("--class", help="Device class.")] = "default",
    role: Annotated[Role, typer.Option("--role", help="device trains; evaluator measures and exports.")] = Role.DEVICE,
    text: Annotated[list[str] | None, typer.Option("--text", help="Text column; twice for pair tasks.")] = None,
    label: Annotated[str, typer.Option("--label", help="Label column.")] = "label",
    test: Annotated[str | None, typer.Option("--test", help="Held-back rows; none: a part of --data.")] = None,
    test_fraction: Annotated[
        float, typer.Option("--test-fraction", help="Part of --data held back by text hash, without --test.")
    ] = 0.0,
    shard: Annotated[str | None, typer.Option("--shard", metavar="I/N", help="Take part I of N of --data.")] = None,
    partition: Annotated[str, typer.Option("--partition", help="How parts are cut: dirichlet or iid.")] = "dirichlet",
    alpha: Annotated[float, typer.Option("--alpha", help="Dirichlet concentration; small is more skewed.")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the partition.")] = 0,
    model: Annotated[
        str | None, typer.Option("--model", help="Base model folder; none fetches the coordinator's.")
    ] = None,
    certs: CertsOption = None,
    identity: Annotated[
        str | None, typer.Option("--identity", help="Certificate in --certs to show; default: --name.")
    ] = None,
    insecure: InsecureOption = False,
    state: Annotated[Path | None, typer.Option("--state", help="State folder; default ~/.fedcore/NAME.")] = None,
    slowdown: Annotated[float, typer.Option("--slowdown", help="Emulate a processor so many times slower.")] = 1.0,
    memory_mb: Annotated[float, typer.Option("--memory-mb", help="Limit on training memory, MiB; 0 is none.")] = 0.0,
    uplink_mbps: Annotated[float, typer.Option("--uplink-mbps", help="Emulate a thin uplink; 0 is none.")] = 0.0,
    downlink_mbps: Annotated[float, typer.Option("--downlink-mbps", help="Emulate a thin downlink; 0 is none.")] = 0.0,
    reconnect_s: Annotated[float, typer.Option("--reconnect-s", help="Give up after so long unreachable.")] = 300.0,
) -> None:
    """Join a run as a device (or as its evaluator) and stay until it is over; comes back after interruptions."""
    check_name(name)
    if ":" not in target:
        raise ConfigError(f"coordinator address {target!r}: expected HOST:PORT, for example coord.example:8443")
    if partition not in ("dirichlet", "iid"):
        raise ConfigError(f"--partition {partition!r}: expected dirichlet or iid")
    options = ClientOptions(
        target=target,
        name=name,
        tls=tls_material(certs, identity or name, insecure),
        model=None if model is None else model_folder(model),
        data=DataOptions(
            train=data,
            test=test,
            text=tuple(text or ["text"]),
            label=label,
            test_fraction=test_fraction,
            shard=None if shard is None else parse_shard(shard),
            partition=partition,
            alpha=alpha,
            seed=seed,
        ),
        state=state or Path.home() / ".fedcore" / name,
        reconnect_s=reconnect_s,
        say=lambda message: typer.echo(f"{name}: {message}"),
    )
    limits = DeviceLimits(
        device_class=device_class,
        slowdown=slowdown,
        memory_mb=memory_mb,
        uplink_mbps=uplink_mbps,
        downlink_mbps=downlink_mbps,
    )
    work = run_evaluator(options) if role is Role.EVALUATOR else run_device(options, limits)
    typer.echo(f"{name}: {run_to_end(work)}")

"""fedcore flower serve, fedcore flower join"""

from pathlib import Path
from typing import Annotated

import typer

from fedcore.cli.console.settings import CertsOption, InsecureOption, ReconnectOption, addresses, tls_material
from fedcore.core.config.address import check_address
from fedcore.core.contract.profile import check_name
from fedcore.core.errors import ConfigError
from fedcore.storage.places import home_folder

FolderArgument = Annotated[Path, typer.Argument(metavar="APP", help="Folder of a Flower app, with its pyproject.toml.")]

app = typer.Typer(
    no_args_is_help=True,
    help="Run an unchanged Flower app over fedcore's coordinator and devices.",
    rich_markup_mode="rich",
)


@app.command("serve")
def serve(
    folder: FolderArgument,
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="For devices; port 0 is any free one.")
    ] = "127.0.0.1:0",
    certs: CertsOption = None,
    insecure: InsecureOption = False,
    run_config: Annotated[
        str,
        typer.Option("--run-config", metavar="'KEY=VALUE ...'", help="Changes to \\[tool.flwr.app.config]."),
    ] = "",
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", metavar="DIR", help="New run folder for payloads and events.")
    ] = None,
    lease_s: Annotated[float, typer.Option("--lease-s", help="A device that is silent for so long is lost.")] = 30.0,
    deadline_s: Annotated[float, typer.Option("--deadline-s", help="Longest wait for a reply.")] = 3600.0,
) -> None:
    """Serve a Flower app: its ServerApp runs here, with any strategy; devices join with fedcore flower join.

    Messages travel down open gRPC streams, and replies come back as soon as
    they are ready. If a device is lost or misses its deadline, the strategy
    gets an error reply. Needs the extra fedcore\\[flower].

    Example: fedcore flower serve my-app --listen 0.0.0.0:8443 --certs certs
    """
    check_address(listen, "--listen", example="0.0.0.0:8443", any_port=True)
    _check_seconds("--lease-s", lease_s)
    _check_seconds("--deadline-s", deadline_s)
    tls = tls_material(certs, "coordinator", insecure)
    from fedcore.server.flower.load import load_server_app
    from fedcore.server.flower.load import run_config as settings_of
    from fedcore.server.flower.serve import AppOptions, serve_app
    from fedcore.server.run.run_folder import RunFolder
    from fedcore.storage.process.interrupt import run_to_end

    settings, server_app = settings_of(folder, run_config), load_server_app(folder)
    run_folder = RunFolder.create("flower", base=Path("runs"), chosen=run_dir)
    options = AppOptions(
        folder=run_folder.root,
        tls=tls,
        say=typer.echo,
        listen=listen,
        run_config=settings,
        lease_s=lease_s,
        deadline_s=deadline_s,
        certs=certs,
    )
    typer.echo(f"run folder: {run_folder.root}")
    with run_folder.withdrawn_unless_begun():
        run_to_end(serve_app(server_app, options))
    typer.echo("the app has finished")


@app.command("join")
def join(
    target: Annotated[str, typer.Argument(metavar="HOST:PORT", help="The coordinator that serves the app.")],
    folder: FolderArgument,
    name: Annotated[str, typer.Option("--name", help="This device's name: a-z, 0-9 and '-'.")],
    device_class: Annotated[str, typer.Option("--class", help="Device class, for its certificate.")] = "default",
    certs: CertsOption = None,
    identity: Annotated[
        str | None,
        typer.Option("--identity", metavar="NAME", help="Certificate in --certs to show; default --name."),
    ] = None,
    insecure: InsecureOption = False,
    node_config: Annotated[
        str,
        typer.Option("--node-config", metavar="'KEY=VALUE ...'", help="Settings of this node for the app's Context."),
    ] = "",
    state: Annotated[
        Path | None,
        typer.Option("--state", metavar="DIR", help="Folder for identity and Context; default ~/.fedcore/NAME."),
    ] = None,
    reconnect_s: ReconnectOption = 300.0,
) -> None:
    """Run a Flower app's ClientApp on this device until the app ends; reconnect after interruptions.

    The app is loaded once, from its folder here: the coordinator sends
    messages, never code. --state keeps the app's Context.

    Example: fedcore flower join coord.example:8443 my-app --name cam-1
    --node-config "partition-id=0 num-partitions=2" --certs certs
    """
    check_name(name)
    check_name(device_class, "device class")
    targets = addresses(target, "coordinator address")
    tls = tls_material(certs, identity or name, insecure)
    from fedcore.client.flower.join import AppDeviceOptions, join_app
    from fedcore.client.flower.load import load_client_app
    from fedcore.client.flower.load import node_config as node_of
    from fedcore.storage.process.interrupt import run_to_end

    options = AppDeviceOptions(
        targets=targets,
        name=name,
        state=state or home_folder("give --state DIR") / ".fedcore" / name,
        tls=tls,
        say=lambda message: typer.echo(f"{name}: {message}"),
        device_class=device_class,
        node_config=node_of(node_config),
        reconnect_s=reconnect_s,
    )
    typer.echo(f"{name}: {run_to_end(join_app(load_client_app(folder), options))}")


def _check_seconds(option: str, value: float) -> None:
    if not 0 < value < float("inf"):
        raise ConfigError(f"{option}: expected a number of seconds above 0, got {value}")

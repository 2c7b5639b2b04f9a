"""fedcore certs"""

from pathlib import Path
from typing import Annotated

import typer

from fedcore.errors import ConfigError
from storage.certificates import Kind, create_authority, issue


def certs(
    folder: Annotated[Path, typer.Argument(help="Folder of the authority and what it issues.")],
    host: Annotated[
        list[str] | None, typer.Option("--host", help="Name or address of the coordinator; may be repeated.")
    ] = None,
    device: Annotated[list[str] | None, typer.Option("--device", help="A certificate for one device.")] = None,
    device_class: Annotated[list[str] | None, typer.Option("--class", help="One for all devices of a class.")] = None,
    evaluator: Annotated[list[str] | None, typer.Option("--evaluator", help="A certificate for an evaluator.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace certificates that exist.")] = False,
) -> None:
    """Make TLS material: an own authority (once), the coordinator's certificate, and one per device or class.

    Copy ca.pem, NAME.pem and NAME.key to the machine that shall be NAME; ca.key stays here. Keys are mode 0600.
    """
    wanted: list[tuple[str, Kind]] = [
        *((name, "device") for name in device or ()),
        *((name, "class") for name in device_class or ()),
        *((name, "evaluator") for name in evaluator or ()),
    ]
    if not (folder / "ca.pem").is_file():
        typer.echo(f"made the authority {create_authority(folder)}")
    elif not wanted and not host:
        raise ConfigError(
            f"{folder} has an authority already; say what to issue: --host, --device, --class, --evaluator"
        )
    if host or not (folder / "coordinator.pem").is_file():
        renew = force or (folder / "coordinator.pem").is_file()
        typer.echo(f"issued {issue(folder, 'coordinator', kind='coordinator', hosts=tuple(host or ()), force=renew)}")
    for name, kind in wanted:
        typer.echo(f"issued {issue(folder, name, kind=kind, force=force)}")

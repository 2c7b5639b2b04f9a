"""fedcore certs"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedcore.errors import ConfigError

if TYPE_CHECKING:
    from storage.certificates import Kind


def certs(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the authority and what it issues.")],
    host: Annotated[
        list[str] | None,
        typer.Option("--host", metavar="NAME", help="Host name or address of the coordinator; may be repeated."),
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option("--device", metavar="NAME", help="A certificate for one device.")
    ] = None,
    device_class: Annotated[
        list[str] | None, typer.Option("--class", metavar="NAME", help="One for all devices of a class.")
    ] = None,
    evaluator: Annotated[
        list[str] | None, typer.Option("--evaluator", metavar="NAME", help="A certificate for an evaluator.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace certificates that exist.")] = False,
) -> None:
    """Make TLS material: an own authority (once), the coordinator's certificate, and one per device or class.

    Copy ca.pem, NAME.pem and NAME.key to the machine that shall be NAME; ca.key stays here. Keys are mode 0600.
    The coordinator's certificate (coordinator.pem) is good for localhost and every --host.

    Example: fedcore certs certs --host coord.example --device cam-1 --class jetson --evaluator judge
    """
    from storage.certificates import create_authority, issue

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

"""fedcore certs"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedcore.core.errors import ConfigError

if TYPE_CHECKING:
    from fedcore.storage.pki.certificates import Kind


def certs(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the authority and its certificates.")],
    host: Annotated[
        list[str] | None,
        typer.Option("--host", metavar="NAME", help="Host name or address that clients dial; may be repeated."),
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
    edge: Annotated[
        list[str] | None, typer.Option("--edge", metavar="NAME", help="A certificate for an edge aggregator.")
    ] = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="Issue only what is missing; for scripts that run again.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace existing certificates.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="List issued certificates and unused join tokens.")] = False,
) -> None:
    """Make certificates: a private authority (once), the coordinator's certificate, and one per device or class.

    Copy ca.pem, NAME.pem and NAME.key to the machine NAME; ca.key stays here. Keys have mode 0600.
    The coordinator's certificate (coordinator.pem) is valid for localhost and every --host.
    With --edge, every --host belongs to the edge instead. For machines that make their own key, use fedcore token.

    Example: fedcore certs certs --host coord.example --device cam-1 --class jetson --evaluator judge
    Then: fedcore certs certs --edge north --host edge.example
    """
    from fedcore.storage.pki.authority import create_authority, issue

    if listing:
        _list(folder)
        return
    if missing and force:
        raise ConfigError("--missing keeps certificates that exist, --force replaces them; give one of them")
    requested: list[tuple[str, Kind]] = [
        *((name, "device") for name in device or ()),
        *((name, "class") for name in device_class or ()),
        *((name, "evaluator") for name in evaluator or ()),
        *((name, "edge") for name in edge or ()),
    ]
    if not (folder / "ca.pem").is_file():
        typer.echo(f"made the authority {create_authority(folder)}")
    elif not requested and not host:
        raise ConfigError(
            f"{folder} has an authority already; say what to issue: --host, --device, --class, --evaluator, --edge"
        )
    hosts = tuple(host or ())
    reissue = (folder / "coordinator.pem").is_file()
    if not reissue or (hosts and not edge and not missing):
        own_hosts = () if edge else hosts
        typer.echo(
            f"issued {issue(folder, 'coordinator', kind='coordinator', hosts=own_hosts, force=force or reissue)}"
        )
    for name, kind in requested:
        if missing and (folder / f"{name}.pem").is_file():
            continue
        edge_hosts = hosts if kind == "edge" else ()
        typer.echo(f"issued {issue(folder, name, kind=kind, hosts=edge_hosts, force=force or missing)}")


def _list(folder: Path) -> None:
    import datetime

    from fedcore.storage.pki.authority import load_signer, utc_now
    from fedcore.storage.pki.authority_record import record_transaction

    load_signer(folder)  # raises without an authority, before a record is made in the folder
    now_s = utc_now().timestamp()
    with record_transaction(folder) as record:
        certificates, tokens = record.certificates(), record.open_tokens(now_s)

    def day(time_s: float) -> str:
        return f"{datetime.datetime.fromtimestamp(time_s, datetime.timezone.utc):%Y-%m-%d %H:%M} UTC"

    for issued in certificates:
        state = f"until {day(issued.not_after_s)}" if issued.revoked_s is None else f"revoked {day(issued.revoked_s)}"
        typer.echo("  ".join(filter(None, (f"{issued.serial:040x}", str(issued.identity), issued.note, state))))
    for token in tokens:
        typer.echo(f"token {token.id}  {token.identity}  unused, until {day(token.expires_s)}")

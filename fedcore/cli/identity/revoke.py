"""fedcore revoke"""

from pathlib import Path
from typing import Annotated

import typer

from fedcore.core.errors import ConfigError


def revoke(
    folder: Annotated[Path, typer.Argument(metavar="CERTS", help="Folder of the authority (see fedcore certs).")],
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Whose certificates: NAME, or KIND:NAME such as class:nx.")
    ] = None,
    serial: Annotated[
        str | None,
        typer.Option("--serial", metavar="HEX", help="One certificate instead (fedcore certs CERTS --list)."),
    ] = None,
) -> None:
    """Revoke certificates: who shows one is cut off within a lease and not let in again.

    All certificates the name has had so far are revoked, and its unused join
    tokens withdrawn; it may be enrolled again with a new token. Writes
    CERTS/crl.pem, which a running coordinator with the same --certs folder
    sees by itself and hands on to its edges; copy it to where the coordinator
    runs otherwise.

    Example: fedcore revoke certs cam-1
    """
    from fedcore.storage.pki.revocation import revoke as revoke_certificates

    if (name is None) == (serial is None):
        raise ConfigError("say whom to revoke: NAME, KIND:NAME, or --serial HEX")
    chosen = _number(serial) if serial is not None else str(name)
    done = revoke_certificates(folder, chosen)
    for each in done.certificates:
        note = f" ({each.note})" if each.note else ""
        typer.echo(f"revoked {each.identity}{note}, serial {each.serial:x}")
    if done.tokens:
        typer.echo(f"withdrew {done.tokens} unused join token(s)")
    typer.echo(f"wrote {done.path}")


def _number(serial: str) -> int:
    try:
        return int(serial, 16)
    except ValueError:
        raise ConfigError(
            f"--serial {serial!r}: expected hex digits, as fedcore certs CERTS --list prints them"
        ) from None

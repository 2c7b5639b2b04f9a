"""fedcore revoke"""

from pathlib import Path
from typing import Annotated

import typer

from fedcore.core.errors import ConfigError


def revoke(
    folder: Annotated[Path, typer.Argument(metavar="CERTS", help="Folder of the authority (see fedcore certs).")],
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Identity to revoke: NAME, or KIND:NAME such as class:nx.")
    ] = None,
    serial: Annotated[
        str | None,
        typer.Option("--serial", metavar="HEX", help="Revoke only this certificate (fedcore certs CERTS --list)."),
    ] = None,
) -> None:
    """Revoke certificates: a machine that shows one is cut off within a lease and refused from then on.

    This revokes all certificates of the name so far and withdraws its unused
    join tokens; with a new token, the name can enrol again. It writes
    CERTS/crl.pem. A running coordinator with the same --certs folder notices
    that file by itself and passes it on to its edges; for a coordinator on
    another machine, copy the file into its --certs folder.

    Example: fedcore revoke certs cam-1
    """
    from fedcore.storage.pki.revocation import revoke as revoke_certificates

    if (name is None) == (serial is None):
        raise ConfigError("say whom to revoke: NAME, KIND:NAME, or --serial HEX")
    chosen = _number(serial) if serial is not None else str(name)
    result = revoke_certificates(folder, chosen)
    for issued in result.certificates:
        note = f" ({issued.note})" if issued.note else ""
        typer.echo(f"revoked {issued.identity}{note}, serial {issued.serial:x}")
    if result.tokens:
        typer.echo(f"withdrew {result.tokens} unused join token(s)")
    typer.echo(f"wrote {result.path}")


def _number(serial: str) -> int:
    try:
        return int(serial, 16)
    except ValueError:
        raise ConfigError(
            f"--serial {serial!r}: expected hex digits, as fedcore certs CERTS --list prints them"
        ) from None

"""fedcore enrol"""

from pathlib import Path
from typing import Annotated

import typer

from fedcore.cli.identity.enrolling import TokenFileOption, TokenOption, enrol_now, given_token
from fedcore.core.errors import ConfigError


def enrol(
    target: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Where fedcore serve --enrol listens.")],
    certs: Annotated[Path, typer.Option("--certs", metavar="FOLDER", help="Folder for ca.pem, NAME.pem and NAME.key.")],
    token: TokenOption = None,
    token_file: TokenFileOption = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the files; default the token's own.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Renew: replace a certificate that exists, once the new one is here.")
    ] = False,
    wait_s: Annotated[float, typer.Option("--wait-s", help="Give up after so long unreachable.")] = 60.0,
) -> None:
    """Get this machine's certificate with a join token (see fedcore token).

    The key is made here (mode 0600) and never leaves; the authority in the
    token is the only one trusted. fedcore join and fedcore edge do the same
    by themselves with --token and --enrol.

    Example: fedcore enrol coord.example:8444 --token-file cam-1.token
    --certs certs
    """
    given = given_token(token, token_file)
    if given is None:
        raise ConfigError("give --token TOKEN, --token-file FILE, or the token in FEDCORE_TOKEN")
    enrol_now(target, given, certs, name or given.identity.name, replace=force, wait_s=wait_s)

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
        str | None, typer.Option("--name", metavar="NAME", help="Name of the files; default: the name in the token.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Renew: replace an existing certificate once the new one has arrived.")
    ] = False,
    wait_s: Annotated[
        float, typer.Option("--wait-s", help="Give up if the server stays unreachable for so long.")
    ] = 60.0,
) -> None:
    """Get this machine's certificate with a join token (see fedcore token).

    The key is made here (mode 0600) and never leaves this machine; only the
    authority in the token is trusted. fedcore join and fedcore edge enrol by
    themselves with --token and --enrol.

    Example: fedcore enrol coord.example:8444 --token-file cam-1.token
    --certs certs
    """
    join_token = given_token(token, token_file)
    if join_token is None:
        raise ConfigError("give --token TOKEN, --token-file FILE, or the token in FEDCORE_TOKEN")
    enrol_now(target, join_token, certs, name or join_token.identity.name, replace=force, wait_s=wait_s)

"""Enrol from the command line: the options that several subcommands share, and what they do."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedcore.core.config.address import check_address
from fedcore.core.errors import CertificateError, ConfigError

if TYPE_CHECKING:
    from fedcore.storage.pki.token_text import JoinToken

ENROLMENT = "Enrolment, if there is no certificate yet"
TokenOption = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="FEDCORE_TOKEN",
        show_envvar=True,
        metavar="TOKEN",
        help="Join token. Prefer the variable: other users of this machine can see command lines.",
        rich_help_panel=ENROLMENT,
    ),
]
TokenFileOption = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="File with the join token.", rich_help_panel=ENROLMENT),
]
EnrolAtOption = Annotated[
    str | None,
    typer.Option(
        "--enrol",
        envvar="FEDCORE_ENROL",
        show_envvar=True,
        metavar="HOST:PORT",
        help="Where to redeem the token: the address of fedcore serve --enrol.",
        rich_help_panel=ENROLMENT,
    ),
]


def given_token(token: str | None, token_file: Path | None) -> "JoinToken | None":
    """Read the join token of a command line; None where neither option was given.

    Raises ConfigError where both were given, CertificateError where the text is no join token.
    """
    from fedcore.storage.pki.token_text import read_token, read_token_file

    if token_file is not None:
        if token is not None:
            raise ConfigError("--token (or FEDCORE_TOKEN) and --token-file contradict each other; give one of them")
        return read_token_file(token_file)
    return None if token is None else read_token(token)


def enrol_first(
    token: "JoinToken | None",
    enrol_at: str | None,
    certs: Path | None,
    name: str,
    *,
    fitting: Sequence[str],
    wait_s: float,
) -> None:
    """Make sure that `certs` contains a certificate NAME: enrol with the token unless it does.

    `fitting`: KIND:NAME of every identity that the token may have. Raises ConfigError where an option is missing,
    CertificateError where the token has another identity or is refused, TransportError where no server answers.
    """
    from fedcore.storage.pki.device_key import is_enrolled

    if token is None:
        return
    if certs is None:
        raise ConfigError("a join token needs --certs FOLDER, where the certificate it brings is kept")
    if is_enrolled(certs, name):
        return  # a restart: the token was redeemed before
    if str(token.identity) not in fitting:
        raise CertificateError(f"the join token is for {token.identity}, expected {' or '.join(fitting)}")
    if not enrol_at:
        raise ConfigError("a join token needs --enrol HOST:PORT (or FEDCORE_ENROL), where it is redeemed")
    enrol_now(enrol_at, token, certs, name, replace=False, wait_s=wait_s)


def enrol_now(target: str, token: "JoinToken", certs: Path, name: str, *, replace: bool, wait_s: float) -> None:
    """Enrol and print the result; raises what `fedcore.transport.enrolment.enrol` raises."""
    from fedcore.transport.enrolment import enrol

    check_address(target, "enrolment address", example="coord.example:8444")

    def say(message: str) -> None:
        typer.echo(f"{name}: {message}")

    pem = asyncio.run(enrol(target, token, certs, name, replace=replace, wait_s=wait_s, say=say))
    typer.echo(f"enrolled as {token.identity}: {pem}")

"""Enrolling from the command line: the options several subcommands share, and what they come to."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedcore.core.config.address import check_address
from fedcore.core.errors import CertificateError, ConfigError

if TYPE_CHECKING:
    from fedcore.storage.pki.token_text import JoinToken

ENROLMENT = "Enrolment, where there is no certificate yet"
TokenOption = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="FEDCORE_TOKEN",
        show_envvar=True,
        metavar="TOKEN",
        help="Join token; other users of this machine see command lines, not the environment.",
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
        help="Where the token is redeemed: of fedcore serve --enrol.",
        rich_help_panel=ENROLMENT,
    ),
]


def given_token(token: str | None, token_file: Path | None) -> "JoinToken | None":
    """Read the join token of a command line, None where there is none.

    Raises ConfigError where it was given twice, CertificateError where it is none.
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
    """Have a certificate NAME in `certs`: enrol with the token where there is none yet, else do nothing.

    `fitting`: KIND:NAME of every certificate that would do. Raises ConfigError where something is not said,
    CertificateError where the token is for somebody else or will not do, TransportError where nobody answers.
    """
    from fedcore.storage.pki.device_key import is_enrolled

    if token is None:
        return
    if certs is None:
        raise ConfigError("a join token needs --certs FOLDER, where the certificate it brings is kept")
    if is_enrolled(certs, name):
        return  # a restart: the token has done its work
    if str(token.identity) not in fitting:
        raise CertificateError(f"the join token is for {token.identity}, expected {' or '.join(fitting)}")
    if not enrol_at:
        raise ConfigError("a join token needs --enrol HOST:PORT (or FEDCORE_ENROL), where it is redeemed")
    enrol_now(enrol_at, token, certs, name, replace=False, wait_s=wait_s)


def enrol_now(target: str, token: "JoinToken", certs: Path, name: str, *, replace: bool, wait_s: float) -> None:
    """Enrol and say so; raises what `fedcore.transport.enrolment.enrol` raises."""
    from fedcore.transport.enrolment import enrol

    check_address(target, "enrolment address", example="coord.example:8444")

    def say(message: str) -> None:
        typer.echo(f"{name}: {message}")

    pem = asyncio.run(enrol(target, token, certs, name, replace=replace, wait_s=wait_s, say=say))
    typer.echo(f"enrolled as {token.identity}: {pem}")

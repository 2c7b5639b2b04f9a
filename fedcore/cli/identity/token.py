"""fedcore token"""

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedcore.core.errors import ConfigError

if TYPE_CHECKING:
    from fedcore.storage.pki.certificates import Kind

LONGEST_H = 24.0 * 365


def token(
    folder: Annotated[Path, typer.Argument(metavar="CERTS", help="Folder of the authority (see fedcore certs).")],
    device: Annotated[str | None, typer.Option("--device", metavar="NAME", help="For one device.")] = None,
    device_class: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="For any one device of a class.")
    ] = None,
    evaluator: Annotated[str | None, typer.Option("--evaluator", metavar="NAME", help="For an evaluator.")] = None,
    edge: Annotated[str | None, typer.Option("--edge", metavar="NAME", help="For an edge aggregator.")] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host", metavar="NAME", help="Host name or address that clients of the edge dial; may be repeated."
        ),
    ] = None,
    valid_h: Annotated[float, typer.Option("--valid-h", metavar="HOURS", help="Hours until it expires.")] = 24.0,
    count: Annotated[
        int, typer.Option("--count", min=1, max=10_000, help="Number of tokens, printed one per line.")
    ] = 1,
) -> None:
    """Make a join token: one line of text that gets one machine a certificate, once.

    Treat it like a password. The folder keeps only its hash. The machine
    redeems it with fedcore enrol, or with fedcore join --token, at a
    coordinator that runs with --enrol.

    Example: fedcore token certs --device cam-1 > cam-1.token
    """
    from fedcore.storage.pki.certificates import Identity
    from fedcore.storage.pki.token_text import token_text
    from fedcore.storage.pki.tokens import make_tokens

    names: dict[Kind, str | None] = {"device": device, "class": device_class, "evaluator": evaluator, "edge": edge}
    identities = [Identity(kind=kind, name=name) for kind, name in names.items() if name is not None]
    if len(identities) != 1:
        raise ConfigError("say whom the token is for: one of --device, --class, --evaluator, --edge")
    if host and edge is None:
        raise ConfigError("--host is for an edge: clients dial no other machine")
    if not 0 < valid_h <= LONGEST_H:
        raise ConfigError(f"--valid-h must be above 0 and at most {LONGEST_H:g} hours, got {valid_h:g}")
    tokens = make_tokens(
        folder, identities[0], valid=datetime.timedelta(hours=valid_h), count=count, hosts=tuple(host or ())
    )
    for join_token in tokens:
        typer.echo(token_text(join_token))
    typer.echo(f"for {identities[0]}: {len(tokens)} token(s), each good once within {valid_h:g} h", err=True)

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
        typer.Option("--host", metavar="NAME", help="Host name or address the edge is reached at; may be repeated."),
    ] = None,
    valid_h: Annotated[float, typer.Option("--valid-h", metavar="HOURS", help="Hours it may be used in.")] = 24.0,
    count: Annotated[int, typer.Option("--count", min=1, max=10_000, help="How many, one a line.")] = 1,
) -> None:
    """Make a join token: one line of text that gets one machine a certificate, once.

    Hand it to that machine as you would a password. The folder keeps a hash
    only. The machine redeems it with fedcore enrol, or with fedcore join
    --token, where a coordinator runs with --enrol.

    Example: fedcore token certs --device cam-1 > cam-1.token
    """
    from fedcore.storage.pki.certificates import Identity
    from fedcore.storage.pki.token_text import token_text
    from fedcore.storage.pki.tokens import make_tokens

    named: dict[Kind, str | None] = {"device": device, "class": device_class, "evaluator": evaluator, "edge": edge}
    wanted = [Identity(kind=kind, name=name) for kind, name in named.items() if name is not None]
    if len(wanted) != 1:
        raise ConfigError("say whom the token is for: one of --device, --class, --evaluator, --edge")
    if host and edge is None:
        raise ConfigError("--host is for an edge: nobody dials the others")
    if not 0 < valid_h <= LONGEST_H:
        raise ConfigError(f"--valid-h must be above 0 and at most {LONGEST_H:g} hours, got {valid_h:g}")
    tokens = make_tokens(
        folder, wanted[0], valid=datetime.timedelta(hours=valid_h), count=count, hosts=tuple(host or ())
    )
    for each in tokens:
        typer.echo(token_text(each))
    typer.echo(f"for {wanted[0]}: {len(tokens)} token(s), each good once within {valid_h:g} h", err=True)

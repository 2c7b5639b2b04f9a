"""fedcore doctor"""

import json
from typing import Annotated

import typer

from fedcore.cli.console.settings import JsonOption


def doctor(
    as_json: JsonOption = False,
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Also check that this can be listened on.")
    ] = "127.0.0.1:0",
) -> None:
    """Check this machine: Python, packages, cores, memory, cache, port. Exit code 1 where something must be mended."""
    from fedcore.local_fleet.doctor import examine

    findings = examine(listen)
    if as_json:
        typer.echo(json.dumps([{"check": each.check, "ok": each.ok, "detail": each.detail} for each in findings]))
    else:
        for each in findings:
            typer.echo(f"{'ok  ' if each.ok else 'MEND'} {each.check}: {each.detail}")
    if not all(each.ok for each in findings):
        raise typer.Exit(1)

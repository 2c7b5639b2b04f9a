"""fedcore doctor"""

import json
from typing import Annotated

import typer

from fedcore.cli.console.settings import JsonOption


def doctor(
    as_json: JsonOption = False,
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Also check that a coordinator can listen here.")
    ] = "127.0.0.1:0",
) -> None:
    """Check this machine: Python, packages, cores, memory, cache, port. Exit code 1 if a check fails."""
    from fedcore.local_fleet.doctor import examine

    findings = examine(listen)
    if as_json:
        typer.echo(
            json.dumps([{"check": finding.check, "ok": finding.ok, "detail": finding.detail} for finding in findings])
        )
    else:
        for finding in findings:
            typer.echo(f"{'ok  ' if finding.ok else 'MEND'} {finding.check}: {finding.detail}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)

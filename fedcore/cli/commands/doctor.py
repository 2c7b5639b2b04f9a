"""fedcore doctor"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedcore.cli.console.settings import JsonOption, PluginOption, SetOption, read_config
from fedcore.cli.console.standard_streams import echo_json
from fedcore.core.errors import ConfigError

if TYPE_CHECKING:
    from fedcore.checkup.run_facts import RunFacts
    from fedcore.local_fleet.doctor import Finding


def doctor(
    config: Annotated[
        Path | None, typer.Argument(metavar="[RUN.toml]", help="Also check this run, without starting it.")
    ] = None,
    set_: SetOption = None,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Also check that a coordinator can listen here.")
    ] = "127.0.0.1:0",
) -> None:
    """Check this machine: Python, packages, cores, memory, cache, port. Exit code 1 if a check fails.

    With a configuration, also check the run: rows, labels and shares of every device, memory by sparsity and rank and
    the right memory_mb of every class, seconds and bytes of a round, and all that would stop the run or keep a class
    from joining. Exit code 1 if anything does.
    """
    from fedcore.local_fleet.doctor import examine

    if set_ and config is None:
        raise ConfigError("--set overrides a configuration: give its file too, fedcore doctor RUN.toml")
    findings = examine(listen)
    facts = None if config is None else _run_facts(config, set_)
    _print(findings, facts, as_json=as_json)
    if not all(finding.ok for finding in findings) or (facts is not None and facts.problems):
        raise typer.Exit(1)


def _run_facts(config: Path, overrides: list[str] | None) -> "RunFacts":
    from fedcore.checkup.run_facts import examine_run

    return examine_run(read_config(config, overrides))


def _print(findings: "list[Finding]", facts: "RunFacts | None", *, as_json: bool) -> None:
    machine = [{"check": finding.check, "ok": finding.ok, "detail": finding.detail} for finding in findings]
    if as_json:
        from fedcore.checkup.facts_json import facts_json

        echo_json(json.dumps(machine if facts is None else {"machine": machine, "run": facts_json(facts)}))
        return
    for finding in findings:
        typer.echo(f"{'ok  ' if finding.ok else 'MEND'} {finding.check}: {finding.detail}")
    if facts is not None:
        from rich.console import Console

        from fedcore.checkup.screen import print_facts

        typer.echo()
        print_facts(Console(), facts)

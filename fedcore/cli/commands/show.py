"""fedcore show"""

import json
from typing import Annotated

import typer

from fedcore.cli.console.settings import JsonOption, PluginOption, RunArgument
from fedcore.core.boundary import Boundary
from fedcore.core.errors import RunError


def show(
    run: RunArgument,
    replay: Annotated[bool, typer.Option("--replay", help="Derive every bandit choice again and compare.")] = False,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a finished, paused or running run; --replay checks its choices against its events."""
    from rich.console import Console

    from fedcore.local_fleet.progress import RunProgress, advance
    from fedcore.local_fleet.report import print_report
    from fedcore.local_fleet.view import draw
    from fedcore.server.run.inspect_run import replay_run, run_status
    from fedcore.server.run.journal import read_events
    from fedcore.server.run.run_folder import RunFolder

    folder = RunFolder.existing(run)
    status = run_status(folder)
    if replay:
        status["replayed_choices"] = replay_run(folder)
    if as_json:
        typer.echo(json.dumps(status))
        return
    console = Console()
    if status["summary"] is not None:
        told = f"{folder.summary}: not a summary as fedcore writes it"
        with Boundary(RunError, told, passing=(OSError,)):  # of the terminal
            print_report(console, status["summary"])
    else:
        progress = RunProgress(total_rounds=status["total_rounds"])
        for number, event in enumerate(read_events(folder.events) if folder.events.is_file() else (), start=1):
            with Boundary(RunError, f"{folder.events} line {number}: not an event as fedcore writes it"):
                progress = advance(progress, event)
        console.print(draw(progress))
        typer.echo(status["advice"])
    if replay:
        typer.echo(f"replayed {status['replayed_choices']} choices: all equal")

"""fedcore fleet"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.settings import JsonOption, SetOption, read_config
from fedcore.config_text import to_toml
from fedcore.errors import ConfigError
from fleet.labels import with_labels
from fleet.report import report
from fleet.run import FleetOptions, run_fleet
from fleet.view import open_view
from server.run_folder import RunFolder
from storage.atomic import write_atomic
from storage.model_source import model_folder


def fleet(
    config: Annotated[Path | None, typer.Argument(help="Run configuration (TOML) with [[fleet.class]] tables.")] = None,
    set_: SetOption = None,
    run_dir: Annotated[Path | None, typer.Option("--run-dir", help="Folder of the run; default runs/NAME.")] = None,
    resume: Annotated[Path | None, typer.Option("--resume", metavar="DIR", help="Go on with an earlier run.")] = None,
    reference: Annotated[bool, typer.Option("--reference", help="Also train centralised LoRA, to compare.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Print lines instead of the live view.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a whole fleet on this machine: coordinator, devices and evaluator as processes that talk mutual TLS.

    Ctrl-C stops all of them; --resume goes on from the last closed round.
    """
    console = Console(stderr=as_json)
    if resume is not None:
        if config is not None or set_:
            raise ConfigError("--resume goes on with the run's own configuration; leave out the file and --set")
        folder = RunFolder.existing(resume)
        settings = read_config(folder.config, None)
        begun = folder.ledger.is_file()
    else:
        if config is None:
            raise ConfigError("give a configuration file, or --resume DIR; examples/quickstart.toml is one to copy")
        settings = with_labels(read_config(config, set_))
        model_folder(settings.model.path)  # a wrong path is told before anything is started
        folder = RunFolder.create(settings.run.name, base=Path("runs"), chosen=run_dir)
        write_atomic(folder.config, to_toml(settings).encode())
        begun = False
    console.print(f"run folder: {folder.root}", highlight=False)
    try:
        with open_view(console, plain) as view:
            summary = run_fleet(folder, settings, FleetOptions(reference=reference, resume=begun), view)
    except KeyboardInterrupt:
        console.print(
            f"\nstopped; every process has ended. Go on with: fedcore fleet --resume {folder.root}\n"
            f"look at it with: fedcore show {folder.root}",
            highlight=False,
            markup=False,
        )
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(folder.summary.read_text())
    else:
        console.print(report(summary))
        console.print(f"summary: {folder.summary}\nexports: {folder.exports}", highlight=False)

"""fedcore serve"""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.settings import CertsOption, InsecureOption, JsonOption, SetOption, read_config, tls_material
from fedcore.errors import ConfigError, RunError
from fleet.report import report
from server.run_folder import RunFolder
from server.serve import ServeOptions, new_run, reopen_run
from server.serve import serve as serve_run
from storage.model_source import model_folder


def serve(
    config: Annotated[Path | None, typer.Argument(help="Run configuration (TOML).")] = None,
    set_: SetOption = None,
    run_dir: Annotated[Path | None, typer.Option("--run-dir", help="Folder of the run; default runs/NAME.")] = None,
    resume: Annotated[Path | None, typer.Option("--resume", metavar="DIR", help="Go on with an earlier run.")] = None,
    certs: CertsOption = None,
    insecure: InsecureOption = False,
    reference: Annotated[bool, typer.Option("--reference", help="Also train centralised LoRA, to compare.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a coordinator (no torch needed): wait for devices, run the rounds, write runs/NAME.

    Its certificate is coordinator.pem in the --certs folder. Ctrl-C pauses; --resume goes on from the last round.
    """
    tls = tls_material(certs, "coordinator", insecure)
    if resume is not None:
        if config is not None or set_:
            raise ConfigError("--resume goes on with the run's own configuration; leave out the file and --set")
        folder = RunFolder.existing(resume)
        model = model_folder(read_config(folder.config, None).model.path)
        ledger, settings = reopen_run(folder, model)
    else:
        if config is None:
            raise ConfigError("give a configuration file, or --resume DIR; examples/quickstart.toml is one to copy")
        settings = read_config(config, set_)
        model = model_folder(settings.model.path)
        # The fleet writes the configuration into the folder first and hands that file in.
        own = run_dir is not None and config.resolve().parent == run_dir.resolve()
        folder = (
            RunFolder(run_dir)
            if own and run_dir
            else RunFolder.create(settings.run.name, base=Path("runs"), chosen=run_dir)
        )
        ledger = new_run(folder, settings, model)
    console = Console(stderr=as_json)
    options = ServeOptions(
        model=model, tls=tls, reference=reference, say=lambda text: console.print(text, markup=False, highlight=False)
    )
    console.print(f"run folder: {folder.root}", highlight=False)
    try:
        summary = asyncio.run(serve_run(folder, settings, ledger, options))
    except RunError as error:
        raise RunError(f"{error}; go on with: fedcore serve --resume {folder.root}") from None
    if as_json:
        typer.echo(folder.summary.read_text())
    else:
        console.print(report(summary))

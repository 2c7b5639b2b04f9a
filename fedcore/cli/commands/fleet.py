"""fedcore fleet"""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedcore.cli.console.settings import (
    NOTHING_RAN,
    ConfigArgument,
    JsonOption,
    MetricsOption,
    PluginOption,
    ReferenceOption,
    ResumeOption,
    RunDirOption,
    SetOption,
    check_resume_alone,
    plugin_words,
    read_config,
    say_aside,
    say_overruled,
)
from fedcore.cli.console.standard_streams import echo_json
from fedcore.core.config.address import check_address

if TYPE_CHECKING:
    from fedcore.core.config.tables import Config
    from fedcore.local_fleet.preflight import ReadyFleet
    from fedcore.server.run.run_folder import RunFolder


def fleet(
    config: ConfigArgument = None,
    set_: SetOption = None,
    run_dir: RunDirOption = None,
    resume: ResumeOption = None,
    reference: ReferenceOption = False,
    metrics: MetricsOption = "",
    plain: Annotated[bool, typer.Option("--plain", help="Print lines instead of the live view.")] = False,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a whole fleet on this machine: coordinator, devices and evaluator as processes that use mutual TLS.

    The fleet.class tables of the configuration set the number of devices of every class. Ctrl-C stops all processes;
    --resume continues the run after the last closed round.
    """
    from rich.console import Console

    from fedcore.core.data.device_rows import opening_lines
    from fedcore.local_fleet.report import print_report
    from fedcore.local_fleet.run import FleetOptions, run_fleet
    from fedcore.local_fleet.view import open_view

    if metrics:
        check_address(metrics, "--metrics", example="127.0.0.1:9464")
    if resume is None:
        folder, ready, accelerators = _new(read_config(config, set_), run_dir)
    else:
        check_resume_alone(config, set_)
        folder, ready, accelerators = _earlier(resume)
    console = Console(stderr=as_json)
    console.print(f"run folder: {folder.root}", highlight=False, markup=False, soft_wrap=True)
    if metrics:
        console.print(f"metrics: http://{metrics}/metrics", highlight=False, markup=False, soft_wrap=True)
    for line in opening_lines(ready.rows()):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    options = FleetOptions(reference=reference, metrics=metrics, accelerators=accelerators, plugins=tuple(plugin or ()))
    for number in (signal.SIGTERM, signal.SIGHUP):  # a closed terminal stops a fleet as Ctrl-C does
        signal.signal(number, signal.default_int_handler)
    try:
        # FORCE_COLOR, which build servers set, makes rich take a file for a terminal.
        with folder.withdrawn_unless_begun(), open_view(console, plain or not console.file.isatty()) as view:
            summary = run_fleet(folder, ready.config, options, view)
    except KeyboardInterrupt:
        if not folder.has_begun:
            typer.echo(f"\nstopped; every process has ended; {NOTHING_RAN}", err=True)
            raise typer.Exit(1) from None
        finished = folder.summary.is_file()  # Ctrl-C may come after the run has finished
        onward = "" if finished else f" Go on with: fedcore fleet --resume {folder.root}{plugin_words(plugin)}"
        typer.echo(
            f"\nstopped; every process has ended.{onward}\nlook at it with: fedcore show {folder.root}", err=True
        )
        raise typer.Exit(1) from None
    if as_json:
        echo_json(folder.summary.read_text(encoding="utf-8"))
        return
    print_report(console, summary)
    console.print(
        f"summary: {folder.summary}\nexports: {folder.exports}", highlight=False, markup=False, soft_wrap=True
    )


def _new(settings: "Config", run_dir: Path | None) -> "tuple[RunFolder, ReadyFleet, tuple[str, ...]]":
    from fedcore.core.config.toml import to_toml
    from fedcore.local_fleet.preflight import ready_fleet, try_model
    from fedcore.server.run.run_folder import RunFolder
    from fedcore.storage.atomic import write_atomic

    ready = ready_fleet(settings, say_aside)
    settings = ready.config
    say_overruled(settings)
    folder = RunFolder.create(settings.run.name, base=Path("runs"), chosen=run_dir)
    with folder.withdrawn_unless_begun():
        accelerators = try_model(settings)
        write_atomic(folder.config, to_toml(settings).encode())
    return folder, ready, accelerators


def _earlier(root: Path) -> "tuple[RunFolder, ReadyFleet, tuple[str, ...]]":
    from fedcore.local_fleet.preflight import ready_fleet, try_model
    from fedcore.server.run.preflight import check_unfinished
    from fedcore.server.run.run_folder import RunFolder

    folder = RunFolder.existing(root)
    check_unfinished(folder)
    ready = ready_fleet(read_config(folder.config, None), say_aside)
    return folder, ready, try_model(ready.config)

"""fedcore simulate"""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fedcore.cli.console.settings import (
    NOTHING_RAN,
    ConfigArgument,
    DeviceOption,
    JsonOption,
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
from fedcore.core.accelerators import AUTO, CPU

if TYPE_CHECKING:
    from fedcore.server.run.run import Run
    from fedcore.simulation.setup import SimulationSetup


def simulate(
    config: ConfigArgument = None,
    set_: SetOption = None,
    run_dir: RunDirOption = None,
    resume: ResumeOption = None,
    reference: ReferenceOption = False,
    device: DeviceOption = AUTO,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Simulate a fleet on a virtual clock: the same strategies, rounds and training as a real one, in one process.

    The fleet.class tables set the number of devices of every class, when they are online and how they fail; the
    simulation table sets how they train. The result is a run folder like that of a real fleet; equal seeds give equal
    files. Ctrl-C stops the run; --resume continues it after the last closed round.
    """
    from rich.console import Console

    from fedcore.core.data.device_rows import opening_lines
    from fedcore.local_fleet.client_extra import require_client
    from fedcore.local_fleet.report import print_report
    from fedcore.server.process.collector import collect_seldom
    from fedcore.simulation.progress import RoundLines
    from fedcore.simulation.run import simulate as simulate_run

    console = Console(stderr=as_json)

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    require_client("fedcore simulate")
    if resume is None:
        setup, run = _new(config, set_, run_dir, reference=reference, device=device)
    else:
        check_resume_alone(config, set_)
        setup, run = _earlier(resume, reference=reference, device=device)
    folder = run.folder
    say(f"run folder: {folder.root}")
    trains_on = "" if setup.device == CPU else f" on {setup.device}"
    say(f"{len(setup.fleet.devices)} virtual devices, training {setup.config.simulation.training}{trains_on}")
    rows = setup.rows()
    for line in () if rows is None else opening_lines(rows):
        say(line)
    lines = RoundLines(say=say, total_rounds=setup.config.run.rounds, now_s=time.monotonic)
    collect_seldom()
    try:
        with folder.withdrawn_unless_begun():
            summary = simulate_run(setup, run, [lines], reference=reference)
    except KeyboardInterrupt:
        onward = f"go on with: fedcore simulate --resume {folder.root}{plugin_words(plugin)}"
        typer.echo(f"\nstopped; {onward if folder.has_begun else NOTHING_RAN}", err=True)
        raise typer.Exit(1) from None
    if as_json:
        echo_json(folder.summary.read_text(encoding="utf-8"))
        return
    print_report(console, summary)
    say(f"summary: {folder.summary}")


def _new(
    config: Path | None, set_: list[str] | None, run_dir: Path | None, *, reference: bool, device: str
) -> "tuple[SimulationSetup, Run]":
    from fedcore.server.run.run import Run
    from fedcore.server.run.run_folder import RunFolder
    from fedcore.simulation.setup import check_reference, read_setup

    settings = read_config(config, set_)
    setup = read_setup(settings, say_aside, device=device)
    check_reference(setup, reference)
    say_overruled(settings)
    folder = RunFolder.create(setup.config.run.name, base=Path("runs"), chosen=run_dir)
    with folder.withdrawn_unless_begun():
        return setup, Run.create(folder, setup.config, setup.model)


def _earlier(root: Path, *, reference: bool, device: str) -> "tuple[SimulationSetup, Run]":
    from fedcore.server.run.run import Run
    from fedcore.server.run.run_folder import RunFolder
    from fedcore.simulation.setup import check_reference, read_setup

    folder = RunFolder.existing(root)
    setup = read_setup(read_config(folder.config, None), device=device)
    check_reference(setup, reference)
    return setup, Run.resume(folder, setup.model)

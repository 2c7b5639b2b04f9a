"""fedcore serve"""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedcore.cli.console.settings import (
    CertsOption,
    ConfigArgument,
    ContinueOption,
    InsecureOption,
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
    say_overruled,
    serving_metrics,
    tls_material,
)
from fedcore.cli.console.standard_streams import echo_json
from fedcore.cli.console.steady_output import keep_going_without_output
from fedcore.core.config.address import check_address
from fedcore.core.errors import ConfigError, RunError

RUNS = Path("runs")

if TYPE_CHECKING:
    from fedcore.core.config.tables import Config
    from fedcore.server.run.run import Run


def serve(
    context: typer.Context,
    config: ConfigArgument = None,
    set_: SetOption = None,
    run_dir: RunDirOption = None,
    resume: ResumeOption = None,
    continue_: ContinueOption = False,
    certs: CertsOption = None,
    insecure: InsecureOption = False,
    reference: ReferenceOption = False,
    metrics: MetricsOption = "",
    plugin: PluginOption = None,
    as_json: JsonOption = False,
    enrol: Annotated[
        str,
        typer.Option(
            "--enrol", metavar="HOST:PORT", help="Redeem join tokens here; needs ca.key in --certs (see fedcore token)."
        ),
    ] = "",
    listen: Annotated[
        str,
        typer.Option(
            "--listen", metavar="HOST:PORT", help="Listen here instead of at coordinator.listen; also with --resume."
        ),
    ] = "",
    await_evaluator: Annotated[
        bool, typer.Option("--await-evaluator", help="At the end, wait for an evaluator that has not joined yet.")
    ] = False,
) -> None:
    """Run a coordinator (no torch needed): wait for devices, run the rounds, write runs/NAME.

    It listens on coordinator.listen (default: 127.0.0.1 and any free port; 0.0.0.0:PORT for other machines). Its
    certificate is coordinator.pem in the --certs folder. Devices, and an evaluator that measures and exports, join
    with fedcore join. Ctrl-C pauses the run; --resume continues it after the last closed round.

    Under a supervisor that restarts it, such as systemd or Docker, give --continue: an unfinished run then continues
    by itself, and devices stay when the coordinator is stopped.

    Machines with a certificate that crl.pem in --certs lists are cut off and refused (see fedcore revoke).
    """
    from rich.console import Console

    from fedcore.local_fleet.event_tail import Follower
    from fedcore.local_fleet.report import print_report
    from fedcore.local_fleet.view import PlainView
    from fedcore.server.process.allocator import give_memory_back
    from fedcore.server.process.collector import collect_seldom
    from fedcore.server.serve import ServeOptions
    from fedcore.server.serve import serve as serve_run
    from fedcore.storage.process.orphan import parent_to_watch, watched

    if enrol:
        _check_enrolment(enrol, certs)
    tls = tls_material(certs, "coordinator", insecure)
    run_metrics = context.with_resource(serving_metrics(metrics))  # before any file is written: the port may be in use
    console = Console(stderr=as_json)
    if resume is None:
        settings = _listening_at(listen, read_config(config, set_))
        resume_from = _unfinished(settings.run.name, run_dir) if continue_ else None
    elif continue_:
        raise ConfigError("--continue finds the run by itself; leave out --resume, or --continue")
    else:
        check_resume_alone(config, set_)
        resume_from = resume
    if resume_from is None:
        _check_port(settings)
        run = _new(settings, config, run_dir)
    else:
        run = _earlier(resume_from)
        run.config = _listening_at(listen, run.config)
        console.print(f"going on with {resume_from}, by its own configuration", markup=False, highlight=False)
    folder = run.folder
    follower = Follower(folder.events, run.config.run.rounds, PlainView(console))

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)
        follower.begin()  # it listens before it says anything: the events of an unfinished round are removed by then

    options = ServeOptions(
        tls=tls,
        reference=reference,
        say=say,
        metrics=run_metrics,
        comes_back=continue_,
        certs=certs,
        enrol=enrol,
        await_evaluator=await_evaluator,
    )
    console.print(f"run folder: {folder.root}", markup=False, highlight=False, soft_wrap=True)
    keep_going_without_output()
    give_memory_back()
    collect_seldom()
    parent = parent_to_watch()
    try:
        with folder.withdrawn_unless_begun():
            summary = asyncio.run(follower.beside(watched(serve_run(run, options), parent)))
    except RunError as error:
        if (
            parent is not None or continue_ or not folder.has_begun
        ):  # the fleet, or the supervisor, knows how to continue the run
            raise
        material = "--insecure" if certs is None else f"--certs {certs}"
        material += f" --enrol {enrol}" if enrol else ""
        material += f" --listen {listen}" if listen else ""
        material += plugin_words(plugin)
        raise RunError(f"{error}; go on with: fedcore serve --resume {folder.root} {material}") from None
    if as_json:
        echo_json(folder.summary.read_text(encoding="utf-8"))
    else:
        print_report(console, summary)


def _listening_at(listen: str, settings: "Config") -> "Config":
    """Return the settings with the address of --listen, if one was given."""
    if not listen:
        return settings
    check_address(listen, "--listen", example="0.0.0.0:8443", any_port=True)
    return replace(settings, coordinator=replace(settings.coordinator, listen=listen))


def _check_port(settings: "Config") -> None:
    """Raise RunError, before a run folder is made, where the coordinator could not listen."""
    from fedcore.server.serve import LISTEN_REMEDY
    from fedcore.storage.process.free_port import check_free

    where = settings.coordinator.listen
    try:
        check_free(where)
    except (OSError, ValueError) as cause:
        reason = cause.strerror if isinstance(cause, OSError) else cause
        raise RunError(f"cannot listen on {where}: {reason}; {LISTEN_REMEDY}") from None


def _check_enrolment(enrol: str, certs: Path | None) -> None:
    """Raise ConfigError or CertificateError, before any file is written, where no machine could enrol."""
    from fedcore.storage.pki.authority import load_signer

    check_address(enrol, "--enrol", example="0.0.0.0:8444", any_port=True)
    if certs is None:
        raise ConfigError("--enrol needs --certs FOLDER with the authority's ca.key in it")
    load_signer(certs)


def _new(settings: "Config", config: Path | None, run_dir: Path | None) -> "Run":
    from fedcore.server.run.preflight import check_agreed, check_run
    from fedcore.server.run.run import Run
    from fedcore.server.run.run_folder import RunFolder
    from fedcore.storage.models.model_source import model_folder

    model = model_folder(settings.model.path)
    check_run(settings, model)
    check_agreed(settings)
    say_overruled(settings)
    if run_dir is not None and config is not None and config.resolve().parent == run_dir.resolve():
        folder = RunFolder(run_dir)  # a fleet has made the folder already and passes the configuration in it
    else:
        folder = RunFolder.create(settings.run.name, base=RUNS, chosen=run_dir)
    with folder.withdrawn_unless_begun():
        return Run.create(folder, settings, model)


def _unfinished(name: str, run_dir: Path | None) -> Path | None:
    """Return the run folder to continue: `run_dir` if a run has begun there, else the newest unless it has finished."""
    from fedcore.server.run.preflight import has_finished
    from fedcore.server.run.run_folder import RunFolder

    if run_dir is not None:
        return run_dir if RunFolder(run_dir).ledger.is_file() else None
    newest = RunFolder.newest(name, base=RUNS)
    return None if newest is None or has_finished(newest) else newest.root


def _earlier(root: Path) -> "Run":
    from fedcore.server.run.run import Run
    from fedcore.server.run.run_folder import RunFolder
    from fedcore.storage.models.model_source import model_folder

    folder = RunFolder.existing(root)
    return Run.resume(folder, model_folder(read_config(folder.config, None).model.path))

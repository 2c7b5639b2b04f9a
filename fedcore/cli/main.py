"""The one command `fedcore`: every error is a line or two and exit code 1, wrong usage is 2.

Subcommands import what they need when they run: help and errors come at once, and a machine without torch, or
without the server's libraries, has every command that does not need them.
"""

import errno
import os
import sys
from importlib.metadata import version

import typer

from fedcore.core.errors import FedcoreError
from fedcore.storage.process.quiet import silence_telemetry, wait_passively

silence_telemetry()  # before any library that reports home is imported
wait_passively()
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # every guest without a certificate would be a line on the terminal

from fedcore.cli.commands import (  # noqa: E402
    doctor,
    edge,
    export,
    fetch,
    fleet,
    flower,
    health,
    join,
    serve,
    show,
    simulate,
)
from fedcore.cli.identity import certs, enrol, revoke, token  # noqa: E402

app = typer.Typer(
    name="fedcore",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("fetch")(fetch.fetch)
app.command("fleet")(fleet.fleet)
app.command("simulate")(simulate.simulate)
app.command("serve")(serve.serve)
app.command("join")(join.join)
app.command("edge")(edge.edge)
app.add_typer(flower.app, name="flower")
app.command("show")(show.show)
app.command("export")(export.export)
app.command("health")(health.health)
app.command("certs")(certs.certs)
app.command("token")(token.token)
app.command("enrol")(enrol.enrol)
app.command("revoke")(revoke.revoke)
app.command("doctor")(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fedcore {version('fedcore')}")
        raise typer.Exit


@app.callback()
def fedcore(
    show_version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Say which."),
) -> None:
    """Federated fine-tuning of language models on real devices.

    Every device gets its own pruning ratio and LoRA rank from a bandit, every class of device a smaller, faster model.

    On one machine: [bold]fedcore fleet examples/quickstart.toml[/bold]

    On several: [bold]fedcore certs[/bold], [bold]serve[/bold] on one of them, [bold]join[/bold] on the others, and
    [bold]edge[/bold] on machines between them

    Exit codes: 0 done, 1 an error, 2 wrong usage.
    """


def run() -> None:
    """Run the command line."""
    try:
        app(prog_name="fedcore")  # also as python -m fedcore.cli.main
    except FedcoreError as error:
        _fail(str(error))
    except OSError as cause:
        if cause.filename is None and cause.errno == errno.ENOSPC:
            _fail("the output cannot be written: no space left on device")
        if cause.filename is None:  # not about a file: nothing a user could act on without the traceback
            raise
        _fail(f"{cause.filename}: {cause.strerror or cause}")
    except KeyboardInterrupt:
        sys.exit(1)


def _fail(message: str) -> None:
    typer.secho("error: ", fg="red", err=True, nl=False)
    typer.echo(message, err=True)
    sys.exit(1)


if __name__ == "__main__":
    run()

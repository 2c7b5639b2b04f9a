"""The command `fedcore`: an error prints a line or two and exits with code 1, wrong usage exits with code 2.

A subcommand imports its libraries when it runs. So help and errors appear at once, and a machine without torch, or
without the server's libraries, can run every command that does not need them.
"""

import os
import sys
from importlib.metadata import version

from fedcore.core.errors import FedcoreError
from fedcore.storage.process.environment import forgive_warnings, mend_environment
from fedcore.storage.process.quiet import silence_telemetry, wait_passively

forgive_warnings()
mend_environment()  # before any library is imported that reads its variables then
silence_telemetry()
wait_passively()
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # else every client without a certificate prints a line here

import typer  # noqa: E402

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
from fedcore.cli.console.standard_streams import prepare_streams  # noqa: E402
from fedcore.cli.console.system_error import system_message, where_it_happened  # noqa: E402
from fedcore.cli.console.utf8_mode import ensure_utf8_mode  # noqa: E402
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


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"fedcore {version('fedcore')}")
        raise typer.Exit


@app.callback()
def fedcore(
    show_version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Federated fine-tuning of language models on real devices.

    A bandit gives every device its own pruning ratio and LoRA rank; every device class gets a smaller, faster model.

    On one machine: [bold]fedcore fleet examples/quickstart.toml[/bold]

    On several: [bold]fedcore certs[/bold], [bold]serve[/bold] on one of them, [bold]join[/bold] on the others, and
    [bold]edge[/bold] on machines between them

    Exit codes: 0 done, 1 an error, 2 wrong usage.
    """


def run() -> None:
    """Run the command line."""
    prepare_streams()
    ensure_utf8_mode()
    try:
        app(prog_name="fedcore")  # also as python -m fedcore.cli.main
    except FedcoreError as error:
        _fail(f"{error}{where_it_happened()}")
    except OSError as cause:
        if (message := system_message(cause)) is None:
            raise  # not about a file: nothing a user could act on without the traceback
        _fail(message)
    except KeyboardInterrupt:
        sys.exit(1)


def _fail(message: str) -> None:
    typer.secho("error: ", fg="red", err=True, nl=False)
    typer.echo(message, err=True)
    sys.exit(1)


if __name__ == "__main__":
    run()

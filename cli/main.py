"""The one command `fedcore`: every error is one line and exit code 1, wrong usage is 2."""

import sys

import typer
from rich.console import Console

from fedcore.errors import FedcoreError
from storage.quiet import silence_telemetry

silence_telemetry()  # before any library that reports home is imported

from cli import certs, doctor, export, fetch, fleet, join, serve, show  # noqa: E402

app = typer.Typer(
    name="fedcore",
    help="Federated fine-tuning of language models on real devices: every device gets its own pruning ratio and "
    "LoRA rank from a bandit, and every class of device a smaller, faster model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("fetch")(fetch.fetch)
app.command("fleet")(fleet.fleet)
app.command("serve")(serve.serve)
app.command("join")(join.join)
app.command("export")(export.export)
app.command("certs")(certs.certs)
app.command("show")(show.show)
app.command("doctor")(doctor.doctor)


def run() -> None:
    """Run the command line."""
    try:
        app()
    except FedcoreError as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", markup=False, highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(1)


if __name__ == "__main__":
    run()

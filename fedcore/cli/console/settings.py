"""Options that several subcommands share, and reading a configuration."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedcore.api.configuration import read_config_file
from fedcore.core.accelerators import check_device
from fedcore.core.config.address import check_address
from fedcore.core.config.tables import Config
from fedcore.core.errors import ConfigError

if TYPE_CHECKING:
    from fedcore.server.observe.metrics import RunMetrics
    from fedcore.storage.pki.certificates import Kind, TlsMaterial

NOTHING_RAN = "nothing has run, and no folder is left"  # where a run is stopped before its first event

ConfigArgument = Annotated[
    Path | None, typer.Argument(help="Run configuration (TOML); examples/quickstart.toml is one to copy.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="TABLE.KEY=VALUE", help="Override a configuration key, such as run.rounds=5; may be repeated."
    ),
]
RunDirOption = Annotated[
    Path | None,
    typer.Option("--run-dir", metavar="DIR", help="New folder for the run; default runs/NAME, or NAME-2, -3, ..."),
]
ResumeOption = Annotated[
    Path | None,
    typer.Option("--resume", metavar="DIR", help="Continue the run in this folder after its last closed round."),
]
ContinueOption = Annotated[
    bool,
    typer.Option(
        "--continue",
        help="Continue the newest run of this name unless it has finished, else begin one; for supervisors.",
    ),
]
ReferenceOption = Annotated[
    bool,
    typer.Option("--reference", help="For comparison, also train centralised LoRA on all rows with as many steps."),
]
CertsOption = Annotated[
    Path | None,
    typer.Option("--certs", metavar="FOLDER", help="Folder with ca.pem, NAME.pem and NAME.key (see fedcore certs)."),
]
InsecureOption = Annotated[
    bool, typer.Option("--insecure", help="Run without TLS: anybody on the network can read and join.")
]
MetricsOption = Annotated[
    str,
    typer.Option(
        "--metrics", metavar="HOST:PORT", help="Serve Prometheus metrics here, such as 127.0.0.1:9464; no password."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs on stdout; the rest on stderr.")]
RunArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Run folder, such as runs/NAME.")]


def _load_plugins(given: list[str] | None) -> list[str]:
    """Import what --plugin names before the command begins; return it as other processes find it."""
    if not given:
        return []
    from fedcore.api.plugins import load_plugins

    return list(load_plugins(given))


PluginOption = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="MODULE",
        callback=_load_plugins,
        help="Import this module (on PYTHONPATH) or .py file first: it registers own strategies; may be repeated.",
    ),
]


def _known_device(value: str) -> str:
    check_device(value, "--device")
    return value


DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="NAME",
        callback=_known_device,
        help="auto (an accelerator if there is one), cpu, cuda, mps, xpu, or one by number: cuda:1.",
    ),
]


def finite_seconds(value: float) -> float:
    """Return the seconds of an option; raises BadParameter for a negative or infinite value."""
    if not 0 <= value < math.inf:
        raise typer.BadParameter(f"expected seconds, 0 or more, got {value}")
    return value


ReconnectOption = Annotated[
    float,
    typer.Option(
        "--reconnect-s", callback=finite_seconds, help="Give up if every parent stays unreachable for so long."
    ),
]


def read_config(path: Path | None, overrides: Sequence[str] | None) -> Config:
    """Read and check a configuration file; raises ConfigError naming the file and the key, and where `path` is None."""
    if path is None:
        raise ConfigError("give a configuration file, or --resume DIR; examples/quickstart.toml is one to copy")
    return read_config_file(path, overrides or ())


def say_aside(text: str) -> None:
    """Say something on stderr that is no error."""
    typer.echo(text, err=True)


def say_overruled(config: Config) -> None:
    """Print on stderr the keys of a new run's configuration that its strategy overrules."""
    from fedcore.strategies.overruled import overruled

    changed = overruled(config)
    if changed:
        typer.echo(f"under strategy {config.strategy.name}, {'; '.join(changed)}", err=True)


def addresses(text: str, where: str) -> tuple[str, ...]:
    """Parse HOST:PORT, or several separated by commas; raises ConfigError, naming `where`, for anything else."""
    parts = (part.strip() for part in text.split(","))
    return tuple(dict.fromkeys(check_address(part, where, example="coord.example:8443") for part in parts))


def plugin_words(plugins: Sequence[str] | None) -> str:
    """Return " --plugin MODULE" for each, for advice on how to go on."""
    return "".join(f" --plugin {plugin}" for plugin in plugins or ())


def check_resume_alone(config: Path | None, overrides: Sequence[str] | None) -> None:
    """Raise ConfigError where --resume came with a configuration file or overrides."""
    if config is not None or overrides:
        raise ConfigError("--resume goes on with the run's own configuration; leave out the file and --set")


@contextmanager
def serving_metrics(address: str) -> "Iterator[RunMetrics | None]":
    """Serve Prometheus metrics at `address` inside the block and print the URL; yield None where it is empty.

    Raises ConfigError for a malformed address, RunError where the server cannot listen there.
    """
    if not address:
        yield None
        return
    from fedcore.server.observe.metrics import RunMetrics
    from fedcore.server.observe.metrics_server import MetricsServer

    metrics = RunMetrics()
    with MetricsServer(metrics, address) as server:
        typer.echo(f"metrics: {server.url}", err=True)
        yield metrics


def tls_material(
    certs: Path | None, name: str, insecure: bool, *, kinds: "Sequence[Kind] | None" = None
) -> "TlsMaterial | None":
    """Load the TLS material of `name`, with one of `kinds` (None: any); return None only for --insecure."""
    from fedcore.storage.pki.certificates import KINDS, load_material

    if insecure:
        if certs is not None:
            raise ConfigError("--certs and --insecure contradict each other; give one of them")
        typer.secho("WARNING: --insecure: no encryption, and anybody can join.", fg="red", bold=True, err=True)
        return None
    if certs is None:
        raise ConfigError("give --certs FOLDER (made by fedcore certs), or --insecure to go without TLS")
    return load_material(certs, name, kinds=kinds or KINDS)

"""Options several subcommands share, and reading a configuration."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from fedcore.config import Config
from fedcore.config_text import parse_config
from fedcore.errors import ConfigError
from storage.certificates import TlsMaterial, load_material

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override one configuration key; may be repeated."),
]
CertsOption = Annotated[
    Path | None,
    typer.Option("--certs", metavar="FOLDER", help="Folder with ca.pem, NAME.pem and NAME.key (see fedcore certs)."),
]
InsecureOption = Annotated[
    bool, typer.Option("--insecure", help="Talk without TLS: anybody on the network can read and join.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def read_config(path: Path, overrides: Sequence[str] | None) -> Config:
    """Read and check a configuration file; raises ConfigError naming the file and the key."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise ConfigError(f"no configuration file {path}; examples/quickstart.toml is one to copy") from None
    except (OSError, UnicodeDecodeError) as cause:
        raise ConfigError(f"cannot read {path}: {cause}") from None
    try:
        return parse_config(text, overrides or ())
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def tls_material(certs: Path | None, name: str, insecure: bool) -> TlsMaterial | None:
    """Load the TLS material of `name`; None only where somebody said --insecure."""
    if insecure:
        typer.secho("WARNING: --insecure: no encryption, and anybody can join.", fg="red", bold=True, err=True)
        return None
    if certs is None:
        raise ConfigError("give --certs FOLDER (made by fedcore certs), or --insecure to go without TLS")
    return load_material(certs, name)

"""fedcore fetch"""

import json
from pathlib import Path
from typing import Annotated

import typer

from fedcore.cli.console.settings import JsonOption


def fetch(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Models or data to fetch; without a name, list them."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch models and data sets by pinned version and sha256 into the cache (FEDCORE_CACHE).

    In a configuration, write fetch:NAME.
    """
    from fedcore.storage.models.fetch import fetch as fetch_one
    from fedcore.storage.models.fetchables import FETCHABLES

    if not names:
        rows = {name: item.about for name, item in FETCHABLES.items()}
        typer.echo(json.dumps(rows) if as_json else "\n".join(f"{name:10} {about}" for name, about in rows.items()))
        return
    paths = {}
    for name in names:
        paths[name] = str(fetch_one(name, convert_gguf=_convert))
        if not as_json:
            typer.echo(f"{name}: {paths[name]}")
    if as_json:
        typer.echo(json.dumps(paths))


def _convert(file: Path, folder: Path) -> None:
    from fedcore.local_fleet.client_extra import require_client

    require_client("converting this model")
    from fedcore.client.data.gguf import convert_gguf

    convert_gguf(file, folder)

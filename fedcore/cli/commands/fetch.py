"""fedcore fetch"""

import json
from pathlib import Path
from typing import Annotated

import typer

from fedcore.cli.console.settings import JsonOption
from fedcore.storage.places import local_path


def fetch(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...", help="What to fetch, or a .gguf file to convert; none lists what there is."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch models and data sets by pinned version and sha256 into the cache (FEDCORE_CACHE).

    A configuration names them fetch:NAME. A GGUF file of yours becomes a model folder in the cache.
    """
    from fedcore.storage.models.fetch import GGUF, convert_file
    from fedcore.storage.models.fetch import fetch as fetch_one
    from fedcore.storage.models.fetchables import FETCHABLES

    if not names:
        rows = {name: item.about for name, item in FETCHABLES.items()}
        typer.echo(json.dumps(rows) if as_json else "\n".join(f"{name:10} {about}" for name, about in rows.items()))
        return
    paths = {}
    for name in names:
        local = local_path(name)
        is_file = local.suffix.lower() == GGUF
        paths[name] = str(convert_file(local, _convert) if is_file else fetch_one(name, convert_gguf=_convert))
        if not as_json:
            typer.echo(f"{name}: {paths[name]}")
    if as_json:
        typer.echo(json.dumps(paths))


def _convert(file: Path, folder: Path) -> None:
    from fedcore.local_fleet.client_extra import require_client

    require_client("converting this model")
    from fedcore.client.data.gguf import convert_gguf

    convert_gguf(file, folder)

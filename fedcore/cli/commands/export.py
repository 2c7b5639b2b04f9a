"""fedcore export"""

import json
from pathlib import Path
from typing import Annotated

import typer

from fedcore.cli.console.settings import JsonOption, PluginOption, RunArgument
from fedcore.core.errors import RunError


def export(
    run: RunArgument,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the exported model; must not exist.")],
    device_class: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="Prune to the sparsity of this device class.")
    ] = None,
    sparsity: Annotated[
        float | None, typer.Option("--sparsity", help="Prune to this sparsity instead, in [0, 1).")
    ] = None,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export a pruned and merged model from a run's last global adapter, at a device class's or any other sparsity.

    The folder loads with plain transformers. The run may still be in progress.
    """
    from fedcore.local_fleet.client_extra import require_client
    from fedcore.local_fleet.export import ExportRequest, export_run
    from fedcore.server.run.run_folder import RunFolder

    if out.exists():
        raise RunError(f"{out} exists; choose a new folder")
    if (device_class is None) == (sparsity is None):
        raise RunError("give either --class NAME or --sparsity S")
    folder = RunFolder.existing(run)
    require_client("fedcore export")
    figures = export_run(folder, ExportRequest(device_class=device_class, sparsity=sparsity, out=out))
    if as_json:
        typer.echo(json.dumps(figures))
    else:
        typer.echo(
            f"{out}: sparsity {figures['sparsity']:.1%}, {figures['parameters']} parameters, "
            f"{figures['size_bytes'] / 1e6:.1f} MB"
        )

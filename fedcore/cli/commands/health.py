"""fedcore health"""

from typing import Annotated

import typer


def health(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", help="HOST:PORT, a run folder, an edge's state folder, or the file of join --alive."
        ),
    ],
    within_s: Annotated[float, typer.Option("--within-s", help="Longest time since a device heard its parent.")] = 60.0,
) -> None:
    """Check the health of a coordinator, an edge or a device: exit code 0 or 1, for health checks and supervisors.

    Example: fedcore health runs/quickstart
    """
    from fedcore.storage.process.health import check_health

    typer.echo(check_health(target, within_s=within_s))

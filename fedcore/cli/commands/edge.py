"""fedcore edge"""

from pathlib import Path
from typing import Annotated

import typer

from fedcore.cli.console.settings import (
    CertsOption,
    InsecureOption,
    MetricsOption,
    PluginOption,
    ReconnectOption,
    addresses,
    tls_material,
)
from fedcore.cli.console.steady_output import keep_going_without_output
from fedcore.cli.identity.enrolling import EnrolAtOption, TokenFileOption, TokenOption, enrol_first, given_token
from fedcore.core.config.address import check_address
from fedcore.core.contract.profile import check_name
from fedcore.storage.places import home_folder

WILDCARDS = ("0.0.0.0", "::", "[::]", "*")


def edge(
    upstream: Annotated[
        str,
        typer.Option("--upstream", metavar="HOST:PORT[,...]", help="The tier above: coordinator or edges, best first."),
    ],
    name: Annotated[str, typer.Option("--name", help="This edge's name: a-z, 0-9 and '-'.")],
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="For devices and edges below; port 0 is any free one.")
    ] = "127.0.0.1:0",
    advertise: Annotated[
        str | None,
        typer.Option(
            "--advertise",
            metavar="HOST:PORT",
            help="Address that newcomers are sent to; '' sends none. Default --listen, unless that is a wildcard.",
        ),
    ] = None,
    certs: CertsOption = None,
    identity: Annotated[
        str | None, typer.Option("--identity", metavar="NAME", help="Certificate in --certs to show; default --name.")
    ] = None,
    insecure: InsecureOption = False,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
    enrol_at: EnrolAtOption = None,
    state: Annotated[
        Path | None,
        typer.Option("--state", metavar="DIR", help="Folder for blobs and unsent updates; default ~/.fedcore/NAME."),
    ] = None,
    reconnect_s: ReconnectOption = 300.0,
    metrics: MetricsOption = "",
    plugin: PluginOption = None,
) -> None:
    """Run an edge aggregator (no torch needed) between devices and a coordinator, or between tiers of edges.

    Devices join an edge as they join a coordinator. The edge caches what it
    passes down, folds their updates and sends one message up; the run's
    result is the same. While it listens, edge.json in --state has its address.

    Example: fedcore edge --upstream coord.example:8443 --name north
    --listen 0.0.0.0:8443 --certs certs; then on each device
    fedcore join edge.example:8443,coord.example:8443 ...
    If the edge dies, its devices move on to the next address by themselves.
    """
    check_name(name, "edge name")
    above = addresses(upstream, "upstream")
    check_address(listen, "listen", example="0.0.0.0:8443", any_port=True)
    if advertise:
        check_address(advertise, "advertise", example="edge.example:8443")
    if metrics:
        check_address(metrics, "--metrics", example="127.0.0.1:9464", any_port=True)
    own_certificate = identity or name
    join_token = given_token(token, token_file)
    enrol_first(join_token, enrol_at, certs, own_certificate, fitting=(f"edge:{name}",), wait_s=reconnect_s)
    tls = tls_material(certs, own_certificate, insecure, kinds=("edge",))
    from fedcore.server.edge.options import EdgeOptions
    from fedcore.server.edge.process import serve_edge
    from fedcore.server.process.allocator import give_memory_back
    from fedcore.storage.process.interrupt import run_to_end

    keep_going_without_output()
    give_memory_back()
    everywhere = listen.rpartition(":")[0] in WILDCARDS
    options = EdgeOptions(
        name=name,
        upstream=above,
        listen=listen,
        advertise="" if advertise is None and everywhere else advertise,
        tls=tls,
        state=state or home_folder("give --state DIR") / ".fedcore" / name,
        reconnect_s=reconnect_s,
        metrics=metrics,
        say=lambda message: typer.echo(f"{name}: {message}"),
    )
    typer.echo(f"{name}: {run_to_end(serve_edge(options))}")

"""One edge process: listen, join the tier above, serve until the run is over."""

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any

import grpc

from fedcore.core.model.fingerprint import Fingerprint
from fedcore.protos.service import add_FleetServicer_to_server
from fedcore.protos.values import Join, Role
from fedcore.protos.wire import CHANNEL_OPTIONS, PROTOCOL
from fedcore.server.edge.edge import Edge
from fedcore.server.edge.engine import EdgeEngine
from fedcore.server.edge.notes import EdgeNotes
from fedcore.server.edge.options import EdgeOptions
from fedcore.server.members.interceptor import ErrorInterceptor
from fedcore.server.members.revocation_watch import RevocationWatch
from fedcore.server.members.service import FleetService
from fedcore.server.process.listening import listen
from fedcore.server.run.run_log import Observer
from fedcore.storage.atomic import write_atomic
from fedcore.storage.blobs.store import BlobStore
from fedcore.storage.folder_lock import FolderLock
from fedcore.storage.pki.authority import CRL
from fedcore.storage.process.identity import next_session
from fedcore.transport.link import Link, LinkSettings
from fedcore.transport.parent_connection import ParentConnection
from fedcore.transport.throttle import Throttle

if TYPE_CHECKING:
    from fedcore.server.observe.metrics_server import MetricsServer

ENDPOINT = "edge.json"
SILENCE_S = 30.0  # longest wait for a peer that should be sending or reading
GRACE_S = 3.0  # longer than a stream lingers
NUMBERS_PER_LIFE = 1 << 20  # submissions of one process; numbers rise over restarts, because epochs do
NO_MODEL = Fingerprint(tensors="", config="", tokenizer="")  # an edge has no base model


async def serve_edge(options: EdgeOptions) -> str:
    """Serve an edge until the run is over and return the goodbye of the tier above.

    Raises RunError if it cannot listen or another process has its state folder, TransportError if every tier above
    stays unreachable, and the error of a refused join.
    """
    options.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = FolderLock(options.state, role="edge", remedy="--state")
    try:
        return await _serve(options)
    finally:
        lock.release()


async def _serve(options: EdgeOptions) -> str:
    blobs = BlobStore(options.state / "blobs")
    _, epoch = next_session(options.state / "identity.json")
    unlimited = Throttle(0.0)
    link = Link(
        LinkSettings(
            targets=options.upstream, tls=options.tls, uplink=unlimited, downlink=unlimited, silence_s=SILENCE_S
        )
    )
    metrics, meters, observers = _metrics(options)
    edge = Edge(
        name=options.name,
        link=link,
        engine=EdgeEngine(blobs=blobs),
        number=epoch * NUMBERS_PER_LIFE,
        say=options.say,
        notes=EdgeNotes(observers),
        revocations=RevocationWatch(None if options.tls is None else options.tls.ca, options.state / CRL),
    )
    server = grpc.aio.server(options=list(CHANNEL_OPTIONS), interceptors=[ErrorInterceptor(), *meters])
    service = FleetService(edge, blobs, tls=options.tls is not None, silence_s=SILENCE_S)
    add_FleetServicer_to_server(service, server)
    endpoint = options.state / ENDPOINT
    reason: str | None = None
    try:
        address = await listen(server, options.listen, options.tls, remedy="choose another with --listen HOST:PORT")
        facts = {"address": address, "pid": os.getpid(), "tls": options.tls is not None}
        write_atomic(endpoint, json.dumps(facts).encode())
        options.say(f"listening on {address}" + ("" if options.tls else " WITHOUT TLS"))
        reason = await _until_over(edge, _connection(edge, link, options, address))
        return reason
    finally:
        edge.close(reason)
        await server.stop(GRACE_S)
        await edge.stop()
        await link.close()
        if metrics is not None:
            metrics.close()
        endpoint.unlink(missing_ok=True)


def _metrics(options: EdgeOptions) -> "tuple[MetricsServer | None, list[Any], list[Observer]]":
    """Return the Prometheus endpoint, its byte meters and its observers of events; nothing without --metrics."""
    if not options.metrics:
        return None, [], []
    from fedcore.server.observe.meter import MeterInterceptor
    from fedcore.server.observe.metrics import RunMetrics
    from fedcore.server.observe.metrics_server import MetricsServer

    metrics = RunMetrics()
    endpoint = MetricsServer(metrics, options.metrics)
    options.say(f"metrics: {endpoint.url}")
    return endpoint, [MeterInterceptor(metrics.moved)], [metrics]


def _connection(edge: Edge, link: Link, options: EdgeOptions, address: str) -> ParentConnection:
    async def make_join() -> Join:
        edge.stream_closed()
        uuid, epoch = next_session(options.state / "identity.json")
        return Join(
            protocol_min=PROTOCOL,
            protocol_max=PROTOCOL,
            role=Role.EDGE,
            name=options.name,
            device_uuid=uuid,
            epoch=epoch,
            profile=None,
            fingerprint=NO_MODEL,
            max_length=0,
            labels=(),
            takes_revocations=options.tls is not None,
            address=address if options.advertise is None else options.advertise,
        )

    return ParentConnection(
        link=link,
        make_join=make_join,
        on_welcome=edge.welcome,
        on_message=edge.message,
        say=options.say,
        reconnect_s=options.reconnect_s,
    )


async def _until_over(edge: Edge, connection: ParentConnection) -> str:
    """Stay connected to the tier above until the run is over, or until a task here fails."""
    connected = asyncio.ensure_future(connection.run())
    try:
        await asyncio.wait({connected, edge.tasks.over}, return_when=asyncio.FIRST_COMPLETED)
        return await (connected if connected.done() else edge.tasks.over)
    finally:
        connected.cancel()
        await asyncio.gather(connected, return_exceptions=True)

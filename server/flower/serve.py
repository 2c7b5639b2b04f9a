"""Serve a Flower app on our coordinator: any ServerApp with its own strategy, on our devices."""

import asyncio
import contextlib
import json
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from flwr.app import Context, RecordDict
from flwr.app.user_config import UserConfigValue
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp import ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedcore.core.errors import RunError
from fedcore.core.model.fingerprint import Fingerprint
from fedcore.protos.service import add_FleetServicer_to_server
from fedcore.protos.values import RunDescription
from fedcore.protos.wire import CHANNEL_OPTIONS, PROTOCOL
from fedcore.server.flower.grid import CoordinatorGrid
from fedcore.server.flower.host import AppHost
from fedcore.server.members.interceptor import ErrorInterceptor
from fedcore.server.members.revocation_watch import revocations_in
from fedcore.server.members.service import FleetService
from fedcore.server.process.listening import listen
from fedcore.server.run.journal import EventLog
from fedcore.storage.blobs.store import BlobStore
from fedcore.storage.pki.certificates import TlsMaterial

GRACE_S = 3.0  # longer than a stream lingers
STOP_S = 5.0  # for an app that is in the middle of something


@dataclass(frozen=True, slots=True, kw_only=True)
class AppOptions:
    """Options of an app's coordinator. `tls` None is an explicit choice; `folder` holds payloads and events.jsonl.

    `certs`: the folder of the certificates, with crl.pem in it.
    """

    folder: Path
    tls: TlsMaterial | None
    say: Callable[[str], None]
    listen: str = "127.0.0.1:0"
    run_config: Mapping[str, UserConfigValue] = field(default_factory=dict)
    lease_s: float = 30.0
    deadline_s: float = 3600.0  # of one message
    certs: Path | None = None


def run_server_app(app: ServerApp, options: AppOptions) -> Context:
    """Serve `app` to its end and return its context; raises the app's error, or RunError if the port is in use."""
    return asyncio.run(serve_app(app, options))


async def serve_app(app: ServerApp, options: AppOptions) -> Context:
    """Serve `app` from a running event loop, as `run_server_app` does; on cancellation it sends all devices home."""
    options.folder.mkdir(parents=True, exist_ok=True)
    blobs, log = BlobStore(options.folder / "blobs"), EventLog(options.folder / "events.jsonl")
    revocations = revocations_in(options.certs, options.tls)
    host = AppHost(
        description=_description(),
        blobs=blobs,
        run_config=json.dumps(dict(options.run_config)),
        lease_s=options.lease_s,
        report=lambda event, facts: log.append(time.time(), event, facts),
        revocations=revocations,
    )
    server = grpc.aio.server(options=list(CHANNEL_OPTIONS), interceptors=[ErrorInterceptor()])
    service = FleetService(host, blobs, tls=options.tls is not None, silence_s=options.lease_s)
    add_FleetServicer_to_server(service, server)
    watcher, reason = asyncio.create_task(host.watch()), "the coordinator stops"
    try:
        revocations.refresh()  # a damaged list is an error now; later, the last good list stays in force
        address = await listen(server, options.listen, options.tls, remedy="choose another with --listen HOST:PORT")
        options.say(
            f"listening on {address}" + ("" if options.tls else " WITHOUT TLS: anybody who reaches it can join")
        )
        context = await _run_in_thread(app, host, options)
        reason = "the app has finished"
        return context
    finally:
        host.stop(reason)
        watcher.cancel()
        await server.stop(GRACE_S)
        log.close()


async def _run_in_thread(app: ServerApp, host: AppHost, options: AppOptions) -> Context:
    """Run the app in a thread; after a cancellation, the app's next call of the grid ends it."""
    loop = asyncio.get_running_loop()
    run = Run.create_empty(run_id=secrets.randbits(62) | 1)
    context = Context(
        run_id=run.run_id,
        node_id=SUPERLINK_NODE_ID,
        node_config={},
        state=RecordDict(),
        run_config=dict(options.run_config),
    )
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run.run_id, SUPERLINK_NODE_ID
    grid = CoordinatorGrid(host, loop, run, options.deadline_s)
    over: asyncio.Future[None] = loop.create_future()

    def call_app() -> None:
        error: BaseException | None = None
        try:
            app(grid, context)
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it the wait for this app
            loop.call_soon_threadsafe(_settle, over, error)

    threading.Thread(target=call_app, name="server-app", daemon=True).start()
    try:
        await asyncio.shield(over)
    except asyncio.CancelledError:
        host.stop("stopped on request")
        await asyncio.wait({over}, timeout=STOP_S)
        if over.done():
            over.exception()  # retrieved, or asyncio would log it: this coordinator has stopped
        raise RunError("stopped on request; an app's state is its own: start it again") from None
    return context


def _settle(over: "asyncio.Future[None]", error: BaseException | None) -> None:
    if error is None:
        over.set_result(None)
    else:
        over.set_exception(error)


def _description() -> RunDescription:
    """Return a description for newcomers, without a base model."""
    return RunDescription(
        protocol_min=PROTOCOL,
        protocol_max=PROTOCOL,
        run_id=uuid.uuid4().hex,
        labels=(),
        fingerprint=Fingerprint(tensors="", config="", tokenizer=""),
        model_files=(),
        max_length=0,
        head="",
        dtype="",
    )

"""One coordinator process: wire up a run, serve it to its end, write its summary and exports."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import grpc

from fedcore.core.contract.protocols import Json
from fedcore.core.errors import FedcoreError, RunError
from fedcore.core.tasks.table import task_of
from fedcore.protos.service import add_FleetServicer_to_server
from fedcore.protos.values import EvaluatorResult, ExportOutcome, ExportTask, TaskKind
from fedcore.protos.wire import CHANNEL_OPTIONS
from fedcore.server.aggregate.assemble import make_engine
from fedcore.server.aggregate.engine import Engine
from fedcore.server.members.enrolment import serving_enrolment
from fedcore.server.members.interceptor import ErrorInterceptor
from fedcore.server.members.revocation_watch import RevocationWatch, revocations_in
from fedcore.server.members.service import FleetService
from fedcore.server.observe.meter import Meter, MeterInterceptor
from fedcore.server.observe.opening import Opening
from fedcore.server.process.listening import listen
from fedcore.server.rounds.coordinator import Coordinator
from fedcore.server.rounds.evaluator_tasks import export_task, reference_task
from fedcore.server.rounds.exports import place_export
from fedcore.server.run.run import Run
from fedcore.server.run.run_log import EVALUATOR_KEY
from fedcore.server.run.shards import Shards
from fedcore.storage.atomic import write_atomic
from fedcore.storage.pki.certificates import TlsMaterial

LISTEN_REMEDY = "choose another with --listen HOST:PORT, or in coordinator.listen"
GRACE_S = 3.0  # longer than a stream lingers
STOPS = "the coordinator stops"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What `serve` needs beyond the run. `tls` None is an explicit choice; `metrics` None means no metrics.

    With `comes_back`, a supervisor restarts this coordinator if it ends early, so it sends no member home then.
    `certs`: the folder of the certificates, with crl.pem in it. `enrol`: HOST:PORT where join tokens are redeemed, for
    which that folder must hold the authority's key; empty for none. `await_evaluator`: at the end, wait up to
    evaluation.deadline_s for an evaluator, even if none has been here.
    """

    tls: TlsMaterial | None
    reference: bool
    say: Callable[[str], None]
    metrics: Meter | None = None
    comes_back: bool = False
    certs: Path | None = None
    enrol: str = ""
    await_evaluator: bool = False


async def serve(run: Run, options: ServeOptions) -> Json:
    """Serve a run until it has finished, return its summary and close it.

    Raises RunError if the run paused (also on Ctrl-C): every closed round is durable, and `--resume` goes on from it.
    """
    with run:
        metrics = () if options.metrics is None else (options.metrics,)
        run.open_log(observers=(Opening(options.say), *metrics))
        revocations = revocations_in(options.certs, options.tls)
        coordinator = _coordinator(run, options, revocations)
        server = _server(run, coordinator, options)
        parting = None if options.comes_back else STOPS
        with _Signals(coordinator) as signals:
            try:
                revocations.refresh()  # a damaged list is an error now; later, the last good list stays in force
                await _listen(server, run, options)
                async with _enrolment(options):
                    run.log.event(
                        "started", next_round=run.start.next_round, pid=os.getpid(), task=task_of(run.config).name
                    )
                    summary = await _to_the_end(coordinator, run, options)
                parting = STOPS
                return summary
            except asyncio.CancelledError:
                if not signals.stop_requested:
                    raise
                raise RunError("stopped on request; every closed round is kept") from None
            finally:
                signals.closing = True
                await coordinator.close(parting)
                await server.stop(GRACE_S)
                run.folder.endpoint.unlink(missing_ok=True)


def _coordinator(run: Run, options: ServeOptions, revocations: RevocationWatch) -> Coordinator:
    config = run.config
    coordinator = Coordinator(
        description=run.describe(),
        machine=run.round_state(lease_s=config.coordinator.lease_s),
        make_engine=lambda labels: make_engine(run, labels),
        log=run.log,
        shards=Shards(config, run.ledger),
        rows_per_round=config.evaluation.rows_per_round,
        classes=(table.name for table in config.classes),
        keep_result=lambda kind, result: _keep(run, kind, result),
        revocations=revocations,
    )
    coordinator.evaluators.expected = options.await_evaluator or bool(run.ledger.get_meta(EVALUATOR_KEY))
    return coordinator


def _server(run: Run, coordinator: Coordinator, options: ServeOptions) -> grpc.aio.Server:
    meters = () if options.metrics is None else (MeterInterceptor(options.metrics.moved),)
    server = grpc.aio.server(options=list(CHANNEL_OPTIONS), interceptors=[ErrorInterceptor(), *meters])
    lease_s = run.config.coordinator.lease_s
    service = FleetService(coordinator, run.blobs, tls=options.tls is not None, silence_s=lease_s)
    add_FleetServicer_to_server(service, server)
    return server


async def _to_the_end(coordinator: Coordinator, run: Run, options: ServeOptions) -> Json:
    await coordinator.start()
    await coordinator.over
    coordinator.dismiss_devices("the run has finished")
    engine = await _evaluate_and_export(coordinator, run, options)
    summary = run.finish(engine.strategy, engine.state, engine.model.tensors, here=coordinator.classes)
    for blob_id in coordinator.export_uploads:
        run.blobs.delete(blob_id)  # the exports are copies
    return summary


async def _listen(server: grpc.aio.Server, run: Run, options: ServeOptions) -> None:
    address = await listen(server, run.config.coordinator.listen, options.tls, remedy=LISTEN_REMEDY)
    facts = {"address": address, "pid": os.getpid(), "tls": options.tls is not None}
    write_atomic(run.folder.endpoint, json.dumps(facts).encode())
    options.say(f"listening on {address}" + ("" if options.tls else " WITHOUT TLS: anybody who reaches it can join"))


def _enrolment(options: ServeOptions) -> AbstractAsyncContextManager[str | None]:
    if not options.enrol or options.tls is None or options.certs is None:
        return nullcontext()
    return serving_enrolment(options.certs, options.enrol, options.tls, options.say)


async def _evaluate_and_export(coordinator: Coordinator, run: Run, options: ServeOptions) -> Engine:
    """Have the evaluator measure the final adapter and export every device class; return the engine."""
    engine = coordinator.engine
    if engine is None:
        raise RunError("the run ended before anybody joined; nothing was trained")
    coordinator.evaluate_all()
    for device_class in run.classes(coordinator.classes):
        coordinator.evaluators.add(export_task(engine, device_class, coordinator.fleet_labels))
    if options.reference:
        coordinator.evaluators.add(reference_task(engine, run))
    if not await coordinator.evaluators.drained(run.config.evaluation.deadline_s, time.monotonic):
        options.say("no evaluator answered: accuracy and exports stay n/a (make them with: fedcore export)")
    await coordinator.settle()
    return engine


def _keep(run: Run, kind: TaskKind, result: EvaluatorResult) -> None:
    if isinstance(kind, ExportTask) and isinstance(result.outcome, ExportOutcome):
        try:
            run.folder.exports.mkdir(exist_ok=True)
            place_export(run.folder.exports / kind.device_class, result.outcome.files, run.blobs)
        except (FedcoreError, OSError) as error:  # reported: a missing export must not end a run
            result = replace(result, outcome=None, error=str(error))
    run.log.evaluated(kind, result)


class _Signals:
    """INT and TERM pause the run after the commit under way; a second signal, or one after the last round, cancels it.

    Once `closing`, further signals are ignored, so that the ledger is closed.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        self.stop_requested = False
        self.closing = False
        self._coordinator = coordinator
        self._task = asyncio.current_task()

    def __enter__(self) -> "_Signals":
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    def _stop(self) -> None:
        if self.closing:
            return
        # After the rounds are over, the run waits for the evaluator alone: then the first signal cancels too.
        at_once = self.stop_requested or self._coordinator.over.done()
        self.stop_requested = True
        self._coordinator.stop()
        if at_once and self._task is not None:
            self._task.cancel()

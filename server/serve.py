"""One coordinator process: put a run together, serve it to its end, write down what came of it."""

import asyncio
import json
import os
import signal
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from fedcore.core.config.tables import Config
from fedcore.core.config.toml import parse_config, to_toml
from fedcore.core.contract.protocols import Json
from fedcore.core.errors import FedcoreError, RunError
from fedcore.core.model.fingerprint import Fingerprint
from fedcore.protos.service import add_FleetServicer_to_server
from fedcore.protos.values import (
    BlobRef,
    EvaluatorResult,
    ExportOutcome,
    ExportTask,
    ReferenceTask,
    RunDescription,
    TaskKind,
)
from fedcore.protos.wire import CHANNEL_OPTIONS, PROTOCOL
from fedcore.server.aggregate.adapter_blobs import store_adapter
from fedcore.server.aggregate.assemble import make_engine, untrained_adapter
from fedcore.server.aggregate.engine import Engine
from fedcore.server.members.enrolment import serving_enrolment
from fedcore.server.members.interceptor import ErrorInterceptor
from fedcore.server.members.revocation_watch import revocations_in
from fedcore.server.members.service import FleetService
from fedcore.server.observe.meter import MeterInterceptor
from fedcore.server.process.listening import listen
from fedcore.server.rounds.coordinator import Coordinator
from fedcore.server.rounds.exports import place_export
from fedcore.server.run.journal import write_summary
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.peft_folder import write_peft_folder
from fedcore.server.run.resuming import resumed_machine
from fedcore.server.run.run_folder import RunFolder, read_settings
from fedcore.server.run.run_log import EVALUATOR_KEY, RunLog
from fedcore.server.run.shards import Shards
from fedcore.server.run.summary import build_summary, total_steps
from fedcore.server.run.turn_record import LedgerState
from fedcore.storage.atomic import write_atomic
from fedcore.storage.blobs.store import BlobStore
from fedcore.storage.models.checkpoint import fingerprint, model_files
from fedcore.storage.pki.certificates import TlsMaterial
from fedcore.transport.payload import put_blob

if TYPE_CHECKING:
    from fedcore.server.observe.metrics import RunMetrics

PLACES = (("model", "path"), ("data", "train"), ("data", "test"))  # settings that say where a thing lies
LISTEN_REMEDY = "choose another with --listen HOST:PORT, or in coordinator.listen"
GRACE_S = 3.0  # longer than a stream lingers
STOPS = "the coordinator stops"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What `serve` needs beyond the run folder. `tls` None is an explicit, loud choice, `metrics` None none at all.

    With `comes_back`, somebody starts this coordinator again should it end early: nobody is sent home then.
    `certs`: the folder of the certificates, where crl.pem is looked for. `enrol`: HOST:PORT to redeem join tokens at,
    which takes the authority's key in that folder; empty: nowhere. `await_evaluator`: wait for one at the end even if
    none has been here, for evaluation.deadline_s.
    """

    model: Path
    tls: TlsMaterial | None
    reference: bool
    say: Callable[[str], None]
    metrics: "RunMetrics | None" = None
    comes_back: bool = False
    certs: Path | None = None
    enrol: str = ""
    await_evaluator: bool = False


def new_run(folder: RunFolder, config: Config, model: Path) -> Ledger:
    """Write the resolved configuration and begin the ledger of a new run."""
    write_atomic(folder.config, to_toml(config).encode())
    return Ledger.create(
        folder.ledger,
        run_id=uuid.uuid4().hex,
        config_toml=to_toml(config),
        fingerprint=fingerprint(model).combined,
    )


def reopen_run(folder: RunFolder, model: Path) -> tuple[Ledger, Config]:
    """Open an earlier run; raises RunError where it has finished or the base model has changed since."""
    ledger = Ledger.open(folder.ledger)
    try:
        held = ledger.load()
        if held.finished and folder.summary.is_file():
            raise RunError(f"{folder.root} has finished; look at {folder.summary}, or start a new run")
        if held.fingerprint != fingerprint(model).combined:
            raise RunError(f"{folder.root} was begun with another base model than {model}; give that one back")
        return ledger, _unchanged(folder, held)
    except BaseException:
        ledger.close()
        raise


def _unchanged(folder: RunFolder, held: LedgerState) -> Config:
    """Return the configuration of a run that goes on; raises RunError where what it decided by has been edited.

    A model or data may lie elsewhere by now: the fingerprint tells whether it is the same model.
    """
    config, begun = read_settings(folder), parse_config(held.config_toml)
    changed = sorted(
        f"{table}.{each.name}"
        for table in ("run", "model", "data", "strategy", "training", "simulation")
        for each in fields(getattr(begun, table))
        if (table, each.name) not in PLACES
        and getattr(getattr(config, table), each.name) != getattr(getattr(begun, table), each.name)
    )
    if changed:
        raise RunError(
            f"{folder.config} has other values than the run began with: {', '.join(changed)}; put them back, or start "
            "a new run"
        )
    return config


async def serve(folder: RunFolder, config: Config, ledger: Ledger, options: ServeOptions) -> Json:
    """Serve a run until it has finished, and return its summary.

    Raises RunError where the run paused (also on Ctrl-C): what is durable stays, `--resume` goes on from there.
    """
    held = ledger.load()
    blobs = BlobStore(folder.blobs)
    log = RunLog(folder, ledger, observers=() if options.metrics is None else (options.metrics,))
    log.truncate_after((held.next_round or 1 << 62) - 1)
    mark = fingerprint(options.model)
    revocations = revocations_in(options.certs, options.tls)
    coordinator = Coordinator(
        description=describe_run(held, config, options.model, mark, blobs),
        machine=resumed_machine(config, held, lease_s=config.coordinator.lease_s),
        make_engine=lambda labels: make_engine(
            config=config, model=options.model, labels=labels, folder=folder, blobs=blobs, ledger=ledger, log=log
        ),
        log=log,
        shards=Shards(config, ledger),
        rows_per_round=config.evaluation.rows_per_round,
        keep_result=lambda kind, result: _keep(folder, blobs, log, kind, result),
        revocations=revocations,
    )
    coordinator.desk.expected = options.await_evaluator or bool(ledger.get_meta(EVALUATOR_KEY))
    meters = () if options.metrics is None else (MeterInterceptor(options.metrics.moved),)
    server = grpc.aio.server(options=list(CHANNEL_OPTIONS), interceptors=[ErrorInterceptor(), *meters])
    service = FleetService(coordinator, blobs, tls=options.tls is not None, silence_s=config.coordinator.lease_s)
    add_FleetServicer_to_server(service, server)
    parting = None if options.comes_back else STOPS
    with _Signals(coordinator) as signals:
        try:
            revocations.refresh()  # one that is damaged now is an error; later, the last good one stays in force
            await _listen(server, folder, config.coordinator.listen, options)
            async with _enrolment(options):
                log.event("started", next_round=held.next_round, pid=os.getpid())
                summary = await _to_the_end(coordinator, folder, config, options)
            parting = STOPS
            return summary
        except asyncio.CancelledError:
            if not signals.asked:
                raise
            raise RunError("stopped on request; every closed round is kept") from None
        finally:
            signals.closing = True
            await coordinator.close(parting)
            await server.stop(GRACE_S)
            folder.endpoint.unlink(missing_ok=True)
            log.close()
            ledger.close()


async def _to_the_end(coordinator: Coordinator, folder: RunFolder, config: Config, options: ServeOptions) -> Json:
    await coordinator.start()
    status = await coordinator.over
    coordinator.dismiss_devices("the run has finished")
    engine = await _finish(coordinator, config, options)
    summary = build_summary(
        config=config,
        ledger=engine.ledger,
        strategy=engine.strategy,
        state=engine.state,
        classes=_classes(config, coordinator),
        status=status,
    )
    write_peft_folder(folder.adapter, engine.strategy.spec, engine.model.tensors, config.model.path)
    write_summary(folder.summary, summary)
    engine.log.event("finished", next_round=None)
    for blob_id in coordinator.export_uploads:
        engine.blobs.delete(blob_id)  # the exports are copies
    return summary


async def _listen(server: grpc.aio.Server, folder: RunFolder, where: str, options: ServeOptions) -> None:
    address = await listen(server, where, options.tls, remedy=LISTEN_REMEDY)
    facts = {"address": address, "pid": os.getpid(), "tls": options.tls is not None}
    write_atomic(folder.endpoint, json.dumps(facts).encode())
    options.say(f"listening on {address}" + ("" if options.tls else " WITHOUT TLS: anybody who reaches it can join"))


def _enrolment(options: ServeOptions) -> "AbstractAsyncContextManager[str | None]":
    if not options.enrol or options.tls is None or options.certs is None:
        return nullcontext()
    return serving_enrolment(options.certs, options.enrol, options.tls, options.say)


async def _finish(coordinator: Coordinator, config: Config, options: ServeOptions) -> Engine:
    """Have the evaluator measure the final adapter and make every class's export."""
    engine = coordinator.engine
    if engine is None:
        raise RunError("the run ended before anybody joined; nothing was trained")
    coordinator.evaluate(0)
    spec = engine.strategy.spec
    for device_class in _classes(config, coordinator):
        kept = engine.strategy.export_keep_set(engine.state, device_class)
        keep_set = put_blob(engine.blobs, kept.to_bytes(), "keep-set")
        coordinator.desk.offer(
            ExportTask(
                device_class=device_class,
                adapter=engine.model.adapter,
                keep_set=keep_set,
                lora_scale=config.training.lora_scale,
            )
        )
    if options.reference:
        training = config.training
        untrained = untrained_adapter(config, options.model, coordinator.labels, spec)
        start = store_adapter(engine.blobs, spec, untrained, 0, ranks=config.strategy.ranks)
        coordinator.desk.offer(
            ReferenceTask(
                start=start,
                steps=max(1, total_steps(engine.ledger.outcomes())),
                rank=max(config.strategy.ranks),
                batch_size=training.batch_size,
                learning_rate=config.evaluation.reference_learning_rate,
                weight_decay=training.weight_decay,
                lora_scale=training.lora_scale,
                seed=config.run.seed,
            )
        )
    if not await coordinator.desk.drained(config.evaluation.deadline_s, time.monotonic):
        options.say("no evaluator answered: accuracy and exports stay n/a (make them with: fedcore export)")
    await coordinator.settle()
    return engine


def _keep(folder: RunFolder, blobs: BlobStore, log: RunLog, kind: TaskKind, result: EvaluatorResult) -> None:
    if isinstance(kind, ExportTask) and isinstance(result.outcome, ExportOutcome):
        try:
            folder.exports.mkdir(exist_ok=True)
            place_export(folder.exports / kind.device_class, result.outcome.files, blobs)
        except (FedcoreError, OSError) as error:  # reported: an export that is missing must not end a run
            result = replace(result, outcome=None, error=str(error))
    log.evaluated(kind, result)


def _classes(config: Config, coordinator: Coordinator) -> list[str]:
    """Classes that are configured, are here, or took part before a resume."""
    earlier: set[str] = set()
    if coordinator.engine is not None:
        rounds = coordinator.engine.ledger.outcomes().values()
        earlier = {row["class"] for rows in rounds for row in rows}
    return sorted({each.name for each in config.classes} | coordinator.classes | earlier)


def describe_run(held: LedgerState, config: Config, model: Path, mark: Fingerprint, blobs: BlobStore) -> RunDescription:
    """Return what a newcomer must know of a run, and have the model's files served as blobs."""
    files = []
    for file in model_files(model):
        blob_id = f"sha256:{file.sha256}"
        blobs.alias(blob_id, model / file.name)
        files.append(BlobRef(id=blob_id, size=file.size, name=file.name))
    return RunDescription(
        protocol_min=PROTOCOL,
        protocol_max=PROTOCOL,
        run_id=held.run_id,
        labels=held.labels or config.data.labels,
        fingerprint=mark,
        model_files=tuple(files),
        max_length=config.model.max_length,
        head=config.model.head,
        dtype=config.model.dtype,
    )


class _Signals:
    """INT and TERM pause the run after the commit under way; a second one, or one after the last round, does not wait.

    Once `closing`, further ones are ignored: the end is near, and the ledger shall see it.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        self.asked = False
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
        again = self.asked or self._coordinator.over.done()  # or the rounds are over: only the evaluator is waited for
        self.asked = True
        self._coordinator.stop()
        if again and self._task is not None:
            self._task.cancel()

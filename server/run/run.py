"""A run that is open for writing: begun or gone on with, logged, finished and closed in one place.

Theory of operation. A run is a folder with one durable truth in it, the ledger; events, rows and summary are for
readers. A driver of rounds (coordinator, simulation, Flower app) holds one `Run` from before its first event until
after its last. The steps, in this order:

1. `create` writes config.toml and begins the ledger, or `resume` opens the ledger of an earlier run and checks that the
   run goes on as it began. Either locks the folder: there is one writer.
2. `open_log` opens events.jsonl and rounds.csv where the ledger stands: a crash may leave lines of a round that never
   closed, and those go before anything is added.
3. `round_state` is the round machine after the last commit. The engine is made of the same ledger (`make_engine`), so
   machine, strategy and global adapter are those of one moment.
4. Every commit of the engine moves all of them on together; after kill -9 step 1 begins with the last one.
5. `finish` writes what a run leaves at its end, after the driver has had the final adapter measured and exported:
   the summary last of all files, for a run with a summary and nothing left to do has finished.
6. `close` gives the folder back, at the end or wherever the run broke off.
"""

import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType

from fedcore.core.config.tables import Config
from fedcore.core.config.toml import parse_config, to_toml
from fedcore.core.contract.protocols import Json, Strategy
from fedcore.core.errors import RunError
from fedcore.core.model.adapter import Tensors
from fedcore.core.rounds.machine import resume
from fedcore.core.rounds.policy import RoundPolicy
from fedcore.core.rounds.state import RoundState
from fedcore.protos.values import BlobRef, RunDescription
from fedcore.protos.wire import PROTOCOL
from fedcore.server.run.journal import write_summary
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.peft_folder import write_peft_folder
from fedcore.server.run.run_folder import RunFolder, read_settings
from fedcore.server.run.run_log import Observer, RunLog
from fedcore.server.run.summary import build_summary
from fedcore.server.run.turn_record import LedgerState
from fedcore.storage.atomic import write_atomic
from fedcore.storage.blobs.store import BlobStore
from fedcore.storage.models.checkpoint import fingerprint, model_files

PLACES = (("model", "path"), ("data", "train"), ("data", "test"))  # settings that say where a thing lies
DECIDING = ("run", "model", "data", "strategy", "training", "simulation")  # tables that a run decides by
NO_ROUND = 1 << 62  # above every round's number


@dataclass(slots=True, kw_only=True, eq=False)
class Run:
    """One run, open for writing. Get it from `create` or `resume`, give it back with `close` or a `with` block.

    `config` may be completed (labels, an address) until the log is open; `model` is the base model's folder.
    """

    folder: RunFolder
    config: Config
    model: Path
    ledger: Ledger
    start: LedgerState  # where the run stood when it was opened
    blobs: BlobStore
    _log: RunLog | None = field(default=None, init=False)

    @staticmethod
    def create(folder: RunFolder, config: Config, model: Path, *, base_model: str | None = None) -> "Run":
        """Write the resolved configuration into an existing folder and begin the ledger of a new run.

        `base_model` names the base model where `model` is no checkpoint. Raises RunError where a run is there already.
        """
        write_atomic(folder.config, to_toml(config).encode())
        ledger = Ledger.create(
            folder.ledger,
            run_id=uuid.uuid4().hex,
            config_toml=to_toml(config),
            fingerprint=fingerprint(model).combined if base_model is None else base_model,
        )
        return _opened(folder, ledger, model, lambda _: config)

    @staticmethod
    def resume(folder: RunFolder, model: Path) -> "Run":
        """Open an earlier run.

        Raises RunError where it has finished, the base model has changed since, or what it decides by was edited.
        """

        def check(start: LedgerState) -> Config:
            if start.finished and folder.summary.is_file():
                raise RunError(f"{folder.root} has finished; look at {folder.summary}, or start a new run")
            if start.fingerprint != fingerprint(model).combined:
                raise RunError(f"{folder.root} was begun with another base model than {model}; give that one back")
            return _unchanged(folder, start)

        return _opened(folder, Ledger.open(folder.ledger), model, check)

    @property
    def log(self) -> RunLog:
        """What the run writes for its readers; raises RuntimeError before `open_log`."""
        if self._log is None:
            raise RuntimeError(f"{self.folder.root}: the log of the run is not open yet")
        return self._log

    def open_log(
        self, *, wall: Callable[[], float] = time.time, observers: Sequence[Observer] = (), eager: bool = True
    ) -> RunLog:
        """Open events and rows where the ledger stands, dropping what was written of rounds that never closed.

        `wall` gives seconds since 1970; `observers` and `eager` as in `RunLog`.
        """
        log = self._log = RunLog(self.folder, self.ledger, wall=wall, observers=observers, eager=eager)
        log.truncate_after((self.start.next_round or NO_ROUND) - 1)
        return log

    def round_state(self, *, lease_s: float) -> RoundState:
        """Return the round machine that goes on after the last committed turn; of a new run, before its first."""
        settings, start = self.config.coordinator, self.start
        policy = RoundPolicy(
            total_rounds=self.config.run.rounds,
            quorum=settings.quorum,
            deadline_s=settings.round_deadline_s,
            lease_s=lease_s,
            min_devices=settings.min_devices,
            max_void_rounds=settings.max_void_rounds,
            join_deadline_s=settings.join_deadline_s,
        )
        following = start.next_round if start.next_round is not None else policy.total_rounds + start.void_rounds + 1
        return resume(policy, following, start.void_streak, start.void_rounds)

    def describe(self) -> RunDescription:
        """Return what a newcomer must know of the run, and have the base model's files served as blobs."""
        files = []
        for file in model_files(self.model):
            blob_id = f"sha256:{file.sha256}"
            self.blobs.alias(blob_id, self.model / file.name)
            files.append(BlobRef(id=blob_id, size=file.size, name=file.name))
        return RunDescription(
            protocol_min=PROTOCOL,
            protocol_max=PROTOCOL,
            run_id=self.start.run_id,
            labels=self.start.labels or self.config.data.labels,
            fingerprint=fingerprint(self.model),
            model_files=tuple(files),
            max_length=self.config.model.max_length,
            head=self.config.model.head,
            dtype=self.config.model.dtype,
        )

    def classes(self, here: Iterable[str] = ()) -> list[str]:
        """Return the device classes of the run, sorted: those configured, those that took part, and those `here`."""
        took_part = {row["class"] for _, _, rows in self.ledger.each_outcomes() for row in rows}
        return sorted({each.name for each in self.config.classes} | took_part | set(here))

    def finish(self, strategy: Strategy, state: Json, tensors: Tensors | None, *, here: Iterable[str] = ()) -> Json:
        """Write the global adapter for peft and the summary, and return the summary.

        `state` is the strategy's and `tensors` the global adapter after the last round; None where nothing was trained.
        `here`: device classes that have been here and may not have taken part.
        """
        summary = build_summary(
            config=self.config,
            ledger=self.ledger,
            strategy=strategy,
            state=state,
            classes=self.classes(here),
            status="finished",
        )
        if tensors is not None:
            write_peft_folder(self.folder.adapter, strategy.spec, tensors, self.config.model.path)
        write_summary(self.folder.summary, summary)
        self.log.event("finished", next_round=None)
        return summary

    def close(self) -> None:
        """Close the files of the run and unlock its folder."""
        if self._log is not None:
            self._log.close()
        self.ledger.close()

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _opened(folder: RunFolder, ledger: Ledger, model: Path, config_of: Callable[[LedgerState], Config]) -> Run:
    """Return the run of an open ledger, which is closed again where the run cannot be had."""
    try:
        start = ledger.load()
        return Run(
            folder=folder,
            config=config_of(start),
            model=model,
            ledger=ledger,
            start=start,
            blobs=BlobStore(folder.blobs),
        )
    except BaseException:
        ledger.close()
        raise


def _unchanged(folder: RunFolder, start: LedgerState) -> Config:
    """Return the configuration of a run that goes on; raises RunError where what it decided by has been edited.

    A model or data may lie elsewhere by now: the fingerprint tells whether it is the same model.
    """
    config, begun = read_settings(folder), parse_config(start.config_toml)
    changed = sorted(
        f"{table}.{each.name}"
        for table in DECIDING
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

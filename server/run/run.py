"""A run that is open for writing: this module begins, resumes, logs, finishes and closes it.

Theory of operation. A run is a folder. Its ledger alone is authoritative; events, rows and summary are for readers. A
driver of rounds (coordinator, simulation, Flower app) has one `Run` from before its first event until after its last.
The steps, in this order:

1. `create` writes config.toml and begins the ledger, or `resume` opens the ledger of an earlier run and checks that the
   run goes on as it began. Both lock the folder, so that there is one writer.
2. `open_log` opens events.jsonl and rounds.csv after the last round in the ledger: a crash may leave lines of a round
   that never closed, and those are dropped first.
3. `round_state` is the round machine after the last commit. `make_engine` makes the engine from the same ledger, so
   that machine, strategy and global adapter belong together.
4. Every commit of the engine moves all of them on together; after kill -9, step 1 begins with the last commit.
5. `finish` writes the final files, after the driver has had the final adapter measured and exported. The summary is the
   last file: a run with all rounds closed and a summary has finished.
6. `close` unlocks the folder, at the end or when the run breaks off.
"""

import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType

from fedcore.core.config.tables import Config
from fedcore.core.config.toml import to_toml
from fedcore.core.contract.protocols import Json, Strategy
from fedcore.core.errors import RunError
from fedcore.core.model.adapter import Tensors
from fedcore.core.model.head import resolve_head, times
from fedcore.core.rounds.machine import resume
from fedcore.core.rounds.policy import RoundPolicy
from fedcore.core.rounds.state import RoundState
from fedcore.core.tasks.options import options_of
from fedcore.core.tasks.table import task_of
from fedcore.protos.values import BlobRef, RunDescription
from fedcore.protos.wire import PROTOCOL
from fedcore.server.run.journal import write_summary
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.peft_folder import AdapterCard, write_peft_folder, write_readme
from fedcore.server.run.run_folder import RunFolder, read_settings, stored_config
from fedcore.server.run.run_log import Observer, RunLog
from fedcore.server.run.summary import build_summary
from fedcore.server.run.turn_record import LedgerState
from fedcore.storage.atomic import write_atomic
from fedcore.storage.blobs.store import BlobStore
from fedcore.storage.models.checkpoint import fingerprint, model_files, read_config
from fedcore.storage.models.tensor_file import tensor_index
from fedcore.storage.places import local_path

PLACES = (("model", "path"), ("data", "train"), ("data", "test"))  # settings that are paths
# tables with settings that a run depends on
DECIDING = ("run", "task", "model", "data", "strategy", "training", "simulation")
NO_ROUND = 1 << 62  # above every round's number


@dataclass(slots=True, kw_only=True, eq=False)
class Run:
    """One run, open for writing. Get it from `create` or `resume`, end with `close` or a `with` block.

    A caller may complete `config` (labels, an address) until the log is open; `model` is the base model's folder.
    """

    folder: RunFolder
    config: Config
    model: Path
    ledger: Ledger
    start: LedgerState  # at the moment when the run was opened
    blobs: BlobStore
    _log: RunLog | None = field(default=None, init=False)

    @staticmethod
    def create(folder: RunFolder, config: Config, model: Path, *, base_model: str | None = None) -> "Run":
        """Write the resolved configuration into an existing folder and begin the ledger of a new run.

        `base_model` names the base model if `model` is no checkpoint. Raises RunError if a run is there already.
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

        Raises RunError if it has finished, or if the base model or a setting that it depends on has changed.
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
        """Log of the run, for readers; raises RuntimeError before `open_log`."""
        if self._log is None:
            raise RuntimeError(f"{self.folder.root}: the log of the run is not open yet")
        return self._log

    def open_log(
        self, *, wall: Callable[[], float] = time.time, observers: Sequence[Observer] = (), eager: bool = True
    ) -> RunLog:
        """Open events and rows after the last round in the ledger, and drop lines of rounds that never closed.

        `wall` gives seconds since 1970; `observers` and `eager` as in `RunLog`.
        """
        log = self._log = RunLog(
            self.folder, self.ledger, task=task_of(self.config), wall=wall, observers=observers, eager=eager
        )
        log.truncate_after((self.start.next_round or NO_ROUND) - 1)
        return log

    def round_state(self, *, lease_s: float) -> RoundState:
        """Return the round machine after the last committed turn, or that of a new run."""
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
        """Return what a newcomer must know of the run, and serve the base model's files as blobs."""
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
            task=task_of(self.config).spec,
            task_options=options_of(self.config.task).words(),
            quantize=self.config.forms,
            precision=self.config.training.precision,
        )

    def classes(self, here: Iterable[str] = ()) -> list[str]:
        """Return the device classes of the run, sorted: in the configuration, in outcomes, and `here`."""
        in_outcomes = {row["class"] for _, _, rows in self.ledger.iter_outcomes() for row in rows}
        return sorted({table.name for table in self.config.classes} | in_outcomes | set(here))

    def finish(self, strategy: Strategy, state: Json, tensors: Tensors | None, *, here: Iterable[str] = ()) -> Json:
        """Write the global adapter for peft and the summary, and return the summary.

        `state` is the strategy's state and `tensors` the global adapter after the last round; None if nothing was
        trained. `here`: device classes that have joined, even if they took no part in a round.
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
            measured, head = task_of(self.config).range, {name: tensors[name] for name, _ in strategy.spec.head}
            answers = {} if measured is None else times(head, measured.unit)
            writes = not strategy.spec.head  # the model's own output layer serves
            write_peft_folder(
                self.folder.adapter, strategy.spec, {**tensors, **answers}, self._base_name, writes=writes
            )
            self._write_readme(strategy, summary)
        for warning in summary["warnings"]:
            self.log.event("warning", message=warning)
        write_summary(self.folder.summary, summary)
        self.log.event("finished", next_round=None)
        return summary

    @property
    def _base_name(self) -> str:
        """What transformers loads the base model by: a hub id as it is, else the folder, also of fetch:NAME."""
        name = self.config.model.path
        is_folder = name.startswith("fetch:") or local_path(name).exists()
        return str(self.model.resolve()) if is_folder else name

    def _write_readme(self, strategy: Strategy, summary: Json) -> None:
        settings, labels = self.config.model, tuple(summary["run"]["labels"])
        config = read_config(self.model)
        shapes = {name: entry.shape for name, entry in tensor_index(self.model).items()}
        tests = {name: figures["test"] for name, figures in summary["classes"].items()}
        final, task = summary["global"]["final"], task_of(self.config)
        headline = task.headline
        card = AdapterCard(
            run=self.config.run.name,
            head=resolve_head(config, settings.head, task.outputs(labels), shapes).kind,
            labels=labels,
            max_length=settings.max_length,
            dtype=settings.dtype,
            pruned=any(figures["realised_sparsity"] for figures in summary["classes"].values()),
            headline=headline,
            dense=None if final is None else final[headline.name],
            classes={name: test[headline.name] for name, test in tests.items() if test is not None},
        )
        write_readme(self.folder.adapter, strategy.spec, self._base_name, card)

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
    """Return the run of an open ledger; close the ledger if that fails."""
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
    """Return the configuration of a resumed run; raises RunError if a setting that it depends on was edited.

    Paths of model and data may differ: the fingerprint shows whether it is the same model.
    """
    config, first = read_settings(folder), stored_config(start.config_toml)
    changed = sorted(
        f"{table}.{setting.name}"
        for table in DECIDING
        for setting in fields(getattr(first, table))
        if (table, setting.name) not in PLACES
        and getattr(getattr(config, table), setting.name) != getattr(getattr(first, table), setting.name)
    )
    if changed:
        raise RunError(
            f"{folder.config} has other values than the run began with: {', '.join(changed)}; put them back, or start "
            "a new run"
        )
    return config

"""Tasks for the evaluator: one at a time, sent again when the evaluator reconnects, abandoned at a deadline."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from fedcore.protos.values import EvaluateTask, EvaluatorResult, EvaluatorTask, ExportTask, ReferenceTask, TaskKind
from fedcore.server.aggregate.adapter_blobs import blob_ids
from fedcore.server.members.sessions import Session

OnResult = Callable[[TaskKind, EvaluatorResult], None]


@dataclass(slots=True, eq=False)
class EvaluatorQueue:
    """A queue of tasks in front of at most one evaluator. Lives on the event loop."""

    on_result: OnResult
    session: Session | None = None
    expected: bool = False  # an evaluator will come, or has been here: the run's end waits for it
    current: EvaluatorTask | None = None
    waiting: deque[EvaluatorTask] = field(default_factory=deque)
    next_id: int = 1
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    last_sign_s: float = 0.0

    def add(self, kind: TaskKind) -> None:
        """Queue a task."""
        self.waiting.append(EvaluatorTask(id=self.next_id, kind=kind))
        self.next_id += 1
        self._advance()

    def connect(self, session: Session, now_s: float) -> None:
        """Use `session` from now on, and send it the current task again, or the next one."""
        if self.session is not None:
            self.session.close()
        self.session, self.expected, self.last_sign_s = session, True, now_s
        if self.current is not None:
            session.send(self.current)
        else:
            self._advance()

    def disconnect(self, session: Session) -> None:
        """Note that the stream of `session` closed."""
        if self.session is session:
            self.session = None

    def take_result(self, session: Session, result: EvaluatorResult) -> None:
        """Take the result of the current task; ignore any other, and one from an older session."""
        if session is not self.session or self.current is None or result.id != self.current.id:
            return
        kind, self.current = self.current.kind, None
        self.on_result(kind, result)
        self._advance()

    async def drained(self, silence_s: float, now: Callable[[], float]) -> bool:
        """Wait until all tasks are done; False if no evaluator is expected or it was silent for `silence_s` seconds."""
        begin_s = now()
        while self.current is not None or self.waiting:
            if not self.expected:
                return False
            left_s = max(begin_s, self.last_sign_s) + silence_s - now()
            if left_s <= 0:
                return False
            try:
                await asyncio.wait_for(self.idle.wait(), min(left_s, 1.0))
            except asyncio.TimeoutError:
                continue
        return True

    def blobs(self) -> set[str]:
        """Return the ids of the blobs that open tasks need."""
        tasks = [*self.waiting, *([self.current] if self.current else [])]
        return {blob_id for task in tasks for blob_id in _blobs(task.kind)}

    def _advance(self) -> None:
        if self.current is None and self.waiting and self.session is not None:
            self.current = self.waiting.popleft()
            self.session.send(self.current)
        if self.current is None and not self.waiting:
            self.idle.set()
        else:
            self.idle.clear()


def _blobs(kind: TaskKind) -> set[str]:
    adapter = kind.adapter if isinstance(kind, EvaluateTask | ExportTask) else kind.start
    keep_set = None if isinstance(kind, ReferenceTask) else kind.keep_set
    return blob_ids(adapter) | (set() if keep_set is None else {keep_set.id})

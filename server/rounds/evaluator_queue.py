"""Work for the evaluator: one task at a time, repeated when it comes back, given up at a deadline."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from fedcore.protos.values import EvaluateTask, EvaluatorResult, EvaluatorTask, ExportTask, TaskKind
from fedcore.server.aggregate.adapter_blobs import blob_ids
from fedcore.server.members.sessions import Session

OnResult = Callable[[TaskKind, EvaluatorResult], None]


@dataclass(slots=True, eq=False)
class EvaluatorQueue:
    """A queue of tasks in front of at most one evaluator. Lives on the event loop."""

    on_result: OnResult
    session: Session | None = None
    expected: bool = False  # one is known to come, or has been here: the end waits for it
    current: EvaluatorTask | None = None
    waiting: deque[EvaluatorTask] = field(default_factory=deque)
    next_id: int = 1
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    last_sign_s: float = 0.0

    def offer(self, kind: TaskKind) -> None:
        """Queue a task."""
        self.waiting.append(EvaluatorTask(id=self.next_id, kind=kind))
        self.next_id += 1
        self._advance()

    def seat(self, session: Session, now_s: float) -> None:
        """An evaluator came (back): it gets the task it was at, or the next one."""
        if self.session is not None:
            self.session.close()
        self.session, self.expected, self.last_sign_s = session, True, now_s
        if self.current is not None:
            session.send(self.current)
        else:
            self._advance()

    def leave(self, session: Session) -> None:
        """The stream of `session` closed."""
        if self.session is session:
            self.session = None

    def result(self, session: Session, result: EvaluatorResult) -> None:
        """Take a result; one for a task that is not open is a repetition and ignored, as is anybody else's."""
        if session is not self.session or self.current is None or result.id != self.current.id:
            return
        kind, self.current = self.current.kind, None
        self.on_result(kind, result)
        self._advance()

    async def drained(self, silence_s: float, now: Callable[[], float]) -> bool:
        """Wait until every task is done; False where no evaluator is expected or none was heard for `silence_s`."""
        begin_s = now()
        while self.current is not None or self.waiting:
            if not self.expected:
                return False
            left_s = max(begin_s, self.last_sign_s) + silence_s - now()
            if left_s <= 0:
                return False
            try:
                await asyncio.wait_for(self.idle.wait(), min(left_s, 1.0))
            except TimeoutError:
                continue
        return True

    def blobs(self) -> set[str]:
        """Blobs that open tasks name."""
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
    return blob_ids(adapter) | ({kind.keep_set.id} if isinstance(kind, ExportTask) else set())

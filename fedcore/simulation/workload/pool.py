"""Training processes, each with a model and a pipe of its own; with one worker, training stays in this process."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from fedcore.core.errors import FedcoreError, RunError
from fedcore.simulation.workload.trainer import Answer, Order, VirtualTrainer

STOP_S = 10.0  # from the closed pipe to the kill


@dataclass(slots=True, kw_only=True)
class TrainerPool:
    """Carries out as many orders at once as there are workers; a single order or worker stays in this process.

    One process carries out a whole order, so the number of workers changes the time and nothing else.
    """

    trainer: VirtualTrainer
    workers: int
    _processes: list[SpawnProcess] = field(default_factory=list)
    _pipes: "list[Connection[Any, Any]]" = field(default_factory=list)

    def run(self, orders: Sequence[Order]) -> Iterator[Answer]:
        """Yield the answers in the order of `orders`. Raises RunError where a process has died."""
        if min(self.workers, len(orders)) <= 1:
            yield from map(self.trainer.run, orders)
            return
        self._start()
        for number in range(len(orders) + self.workers):
            worker = number % self.workers
            if number >= self.workers:
                yield self._answer(worker)
            if number < len(orders):
                self._pipes[worker].send(orders[number])

    def close(self) -> None:
        """End the processes, and let go of this process's models."""
        self.trainer.release()
        for pipe in self._pipes:
            pipe.close()  # the process reads the end of the pipe and returns
        for process in self._processes:
            process.join(STOP_S)
            if process.is_alive():
                process.kill()
                process.join()
        self._processes.clear()
        self._pipes.clear()

    def _start(self) -> None:
        if self._processes:
            return
        context = multiprocessing.get_context("spawn")
        for _ in range(self.workers):
            parent_end, child_end = context.Pipe()
            process = context.Process(target=_serve, args=(child_end, self.trainer), daemon=True)
            process.start()
            child_end.close()
            self._processes.append(process)
            self._pipes.append(parent_end)

    def _answer(self, index: int) -> Answer:
        try:
            answer: Answer | FedcoreError = self._pipes[index].recv()
        except (EOFError, OSError):
            self._processes[index].join(STOP_S)
            raise RunError(
                f"a training process has ended with code {self._processes[index].exitcode}, perhaps for want of "
                "memory; lower simulation.workers or simulation.chunk_devices, then resume the run"
            ) from None
        if isinstance(answer, FedcoreError):
            raise answer
        return answer


def cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _serve(pipe: "Connection[Any, Any]", trainer: VirtualTrainer) -> None:
    """Carry out orders until the pipe closes: the main function of a training process."""
    try:
        while True:
            order = pipe.recv()
            try:
                answer: Answer | FedcoreError = trainer.run(order)
            except FedcoreError as error:
                answer = error
            pipe.send(answer)
    except (EOFError, OSError, KeyboardInterrupt):
        return  # the parent has closed the pipe

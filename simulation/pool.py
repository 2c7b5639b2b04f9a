"""Processes that train: each has its own model and a pipe. One alone is no process at all."""

import itertools
import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from fedcore.errors import FedcoreError, RunError
from simulation.trainer import Answer, Order, VirtualTrainer, joined

STOP_S = 10.0  # a process that is told to end has so long


@dataclass(slots=True, kw_only=True)
class TrainerPool:
    """Carries an order out on all its trainers at once, each with a share of the devices."""

    trainer: VirtualTrainer
    workers: int
    _processes: list[SpawnProcess] = field(default_factory=list)
    _pipes: "list[Connection[Any, Any]]" = field(default_factory=list)

    def run(self, order: Order) -> Answer:
        """Return the answers of all devices, in order. Raises RunError where a process has died."""
        shares = _shares(order, self.workers)
        if len(shares) == 1:
            return self.trainer.run(order)
        self._start()
        for pipe, share in zip(self._pipes, shares, strict=False):
            pipe.send(share)
        return joined([self._answer(index) for index in range(len(shares))])

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.close()  # its process reads the end of its orders
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
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, self.trainer), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(ours)

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
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _shares(order: Order, workers: int) -> Sequence[Order]:
    """Deal the devices out in runs of neighbours, so that answers join in order."""
    count = min(workers, len(order.tasks))
    if count <= 1:
        return [order]
    ends = [len(order.tasks) * number // count for number in range(count + 1)]
    return [
        Order(keep_set=order.keep_set, before=order.before, tasks=order.tasks[low:high], batched=order.batched)
        for low, high in itertools.pairwise(ends)
    ]


def _serve(pipe: "Connection[Any, Any]", trainer: VirtualTrainer) -> None:
    """Carry out orders until the pipe closes; the life of a training process."""
    while True:
        try:
            order = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            pipe.send(trainer.run(order))
        except FedcoreError as error:
            pipe.send(error)
        except KeyboardInterrupt:
            return

"""Orders in this process and in others; the trainer is a plain value that travels to the processes."""

import os
from dataclasses import dataclass
from typing import Any

import pytest

from fedcore.core.errors import FedcoreError, ModelError, RunError
from fedcore.simulation.workload.pool import TrainerPool


@dataclass
class Doubling:
    """Answers an order with twice its number and the process; fails for 13, and ends its process for 99."""

    released: int = 0

    def release(self) -> None:
        self.released += 1

    def run(self, order: Any) -> Any:
        if order == 13:
            raise ModelError("unlucky weights")
        if order == 99:
            os._exit(7)
        return 2 * order, os.getpid()


def pool(workers: int) -> TrainerPool:
    return TrainerPool(trainer=Doubling(), workers=workers)  # type: ignore[arg-type]


def answers(trainers: TrainerPool, *orders: int) -> list[tuple[int, int]]:
    return list(trainers.run(orders))  # type: ignore[arg-type]


@pytest.mark.parametrize(("workers", "orders"), [(1, (1, 2, 3)), (4, (5,))])
def test_one_worker_or_one_order_stays_in_this_process(workers: int, orders: tuple[int, ...]) -> None:
    assert answers(pool(workers), *orders) == [(2 * order, os.getpid()) for order in orders]


def test_closing_lets_go_of_the_models() -> None:
    trainers = pool(1)
    answers(trainers, 1)
    trainers.close()
    assert trainers.trainer.released == 1  # type: ignore[attr-defined]


@pytest.mark.slow
def test_answers_come_in_order_and_errors_end_the_run() -> None:
    trainers = pool(2)
    try:
        found = answers(trainers, 1, 2, 3, 4, 5)
        assert [value for value, _ in found] == [2, 4, 6, 8, 10]
        assert len({process for _, process in found} - {os.getpid()}) == 2
        with pytest.raises(FedcoreError, match="unlucky weights"):
            answers(trainers, 13, 1)
    finally:
        trainers.close()


@pytest.mark.slow
def test_a_process_that_died_is_reported_with_its_code() -> None:
    trainers = pool(2)
    try:
        with pytest.raises(RunError, match="ended with code 7"):
            answers(trainers, 99, 1)
    finally:
        trainers.close()

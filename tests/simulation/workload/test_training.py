"""What a training workload orders of its pool, and which states it keeps: the pool is a fake with ready answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np

from fedcore.client.training.training_state import TrainingState
from fedcore.core.config.tables import ClassConfig
from fedcore.core.contract.distillation import Distillation
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.model.adapter import restrict
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.rounds.result import MemberResult, MemberStatus, RoundResult
from fedcore.nn.training.scorer import GroupState
from fedcore.simulation.fleet.fleet import VirtualDevice, VirtualFleet
from fedcore.simulation.workload.device_states import DeviceStates
from fedcore.simulation.workload.pool import TrainerPool
from fedcore.simulation.workload.trainer import Answer, Order
from fedcore.simulation.workload.training import TrainingWorkload
from fedcore.simulation.workload.workload import Group, Part
from tests.simulation.virtual import metrics
from tests.simulation.workload.test_traffic import GEOMETRY, part
from tests.tiny_models import random_keep_set
from tests.tiny_run import drawn_adapter, spec_of

SPEC = spec_of(GEOMETRY, 3)
ADAPTER = drawn_adapter(SPEC)
SHIFT = {"layers.0.q.W": np.ones((12, 12), dtype=np.float32)}


@dataclass
class FakePool:
    """Answers every order with a loss by device; `failing` tasks fail. The next state is that before, plus one."""

    failing: frozenset[int] = frozenset()  # by the first of a task's rows
    orders: list[Order] = field(default_factory=list)
    closed: bool = False

    def run(self, orders: Sequence[Order]) -> Iterator[Answer]:
        self.orders += orders
        for order in orders:
            yield Answer(
                metrics=tuple("no memory" if task.rows[0] in self.failing else metrics() for task in order.tasks),
                scores=(None,) * len(order.tasks),
                increments={"head.bias": np.zeros((len(order.tasks), 2), dtype=np.float32)},
                states=tuple(state(value(task.state) + 1.0) for task in order.tasks),
            )

    def close(self) -> None:
        self.closed = True


def state(value: float) -> TrainingState:
    return TrainingState(
        groups=GroupState(heads=np.full((1, 2), value, np.float32), channels=np.zeros((1, 3), np.float32))
    )


def value(state: TrainingState) -> float:
    return 0.0 if state.groups is None else float(state.groups.heads[0, 0])


def device(name: str, first: int) -> VirtualDevice:
    profile = DeviceProfile(name=name, device_class="any", num_examples=2)
    return VirtualDevice(profile=profile, kind=ClassConfig(name="any", count=1), rows=np.array([first, first + 1]))


def workload_of(pool: FakePool, root: Path) -> TrainingWorkload:
    devices = {name: device(name, first) for name, first in (("ada", 0), ("bob", 2), ("eve", 4))}
    return TrainingWorkload(
        spec=SPEC,
        fleet=VirtualFleet(devices=devices, seed=0),
        pool=cast(TrainerPool, pool),
        states=DeviceStates(root=root, needed=True),
        batched=True,
    )


def group(*parts: Part) -> Group:
    return Group(round=1, adapter=ADAPTER | SHIFT, parts=parts)


def closed(**statuses: MemberStatus) -> RoundResult:
    members = tuple(
        MemberResult(device=name, status=status, pushed_at_s=0.0, accepted_at_s=None)
        for name, status in statuses.items()
    )
    return RoundResult(round=1, void=False, members=members, opened_at_s=0.0, closed_at_s=1.0)


def test_a_group_is_one_order_with_the_adapter_cut_to_it(tmp_path: Path) -> None:
    pool = FakePool()
    keep_set = random_keep_set(KeepSet.full(GEOMETRY), heads=1, channels=10)
    cut = part("eve")
    cut = replace(cut, assignment=replace(cut.assignment, keep_set=keep_set))
    results = list(workload_of(pool, tmp_path).train([group(part("ada"), part("bob")), group(cut)]))
    assert [len(result.metrics) for result in results] == [2, 1]
    assert [[list(task.rows) for task in order.tasks] for order in pool.orders] == [[[0, 1], [2, 3]], [[4, 5]]]
    for order, expected in zip(pool.orders, (KeepSet.full(GEOMETRY), keep_set), strict=True):
        assert order.keep_set == expected and order.batched and order.dense is None
        assert {name: value.shape for name, value in order.before.items()} == spec_of(GEOMETRY, 2).shapes(
            keep_set=expected
        )
        assert order.shift.keys() == SHIFT.keys() and order.shift["layers.0.q.W"] is SHIFT["layers.0.q.W"]


def test_distillation_orders_the_adapter_of_the_dense_model_too(tmp_path: Path) -> None:
    pool, taught = FakePool(), part("ada")
    keep_set = random_keep_set(KeepSet.full(GEOMETRY), heads=1, channels=10)
    how = replace(taught.assignment.training, distillation=Distillation(weight=0.5, temperature=2.0, mix=0.5))
    taught = replace(taught, assignment=replace(taught.assignment, keep_set=keep_set, training=how))
    list(workload_of(pool, tmp_path).train([group(taught)]))
    (order,) = pool.orders
    dense = restrict(SPEC, ADAPTER, rank=2, keep_set=KeepSet.full(GEOMETRY))
    assert order.dense is not None and order.dense.keys() == dense.keys()
    for name, expected in dense.items():
        np.testing.assert_array_equal(order.dense[name], expected)


def test_only_an_accepted_device_that_did_not_fail_begins_with_its_new_state(tmp_path: Path) -> None:
    pool = FakePool(failing=frozenset({4}))
    workload = workload_of(pool, tmp_path)
    (result,) = workload.train([group(part("ada"), part("bob"), part("eve"))])
    assert result.metrics == (metrics(), metrics(), "no memory")
    workload.settle(closed(ada=MemberStatus.ACCEPTED, bob=MemberStatus.MISSED_DEADLINE, eve=MemberStatus.ACCEPTED))
    list(workload.train([group(part("ada"), part("bob"), part("eve"))]))
    assert [value(task.state) for task in pool.orders[1].tasks] == [1.0, 0.0, 0.0]
    workload.close()
    assert pool.closed


def test_a_state_that_an_earlier_process_prepared_is_recovered(tmp_path: Path) -> None:
    list(workload_of(FakePool(), tmp_path).train([group(part("ada"), part("bob"))]))
    pool = FakePool()
    workload = workload_of(pool, tmp_path)
    workload.recover(closed(ada=MemberStatus.ACCEPTED, bob=MemberStatus.LOST))
    list(workload.train([group(part("ada"), part("bob"))]))
    assert [value(task.state) for task in pool.orders[0].tasks] == [1.0, 0.0]

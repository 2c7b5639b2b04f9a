"""Dispatch: assignments pushed at one moment are trained, sent and folded at once; their endings lie in the future.

Training happens when an assignment is pushed, not at the virtual time at which the device would finish: whether its
update can count is already decided by then. A device that fails, vanishes, goes offline or misses the deadline is not
trained at all. The driver receives every ending with its virtual time and reports it to the round machine then.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fedcore.core.contract.outcome import DeviceReport, TrainingMetrics
from fedcore.core.contract.update_stack import UpdateStack
from fedcore.core.text_enum import TextEnum
from fedcore.server.aggregate.engine import Engine
from fedcore.server.aggregate.round_sum import RoundSum
from fedcore.simulation.fleet.duration import TrainCost, download_seconds, upload_seconds
from fedcore.simulation.fleet.faults import FaultDraw, draw_faults
from fedcore.simulation.fleet.fleet import VirtualFleet
from fedcore.simulation.workload.traffic import Sent, Traffic
from fedcore.simulation.workload.workload import Failure, Group, GroupResult, Part, Workload, in_groups


class Ending(TextEnum):
    """How a device's attempt at an assignment ends."""

    ARRIVED = "arrived"  # the update is folded already; it arrives at the ending's time
    FAILED = "failed"
    VANISHED = "vanished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How one device's attempt ends, and when; the driver ignores the ending of a device that has gone by then."""

    device: str
    at_s: float
    ending: Ending
    message: str = ""
    out_of_memory: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """An assignment that goes out at `now_s`; an update counts only if it arrives before `until_s`."""

    device: str
    attempt: int  # at this round's assignment, from 0
    now_s: float
    until_s: float  # the round's deadline, or when the device goes offline


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """One device's attempt: its faults, its bytes, and the times of download and training."""

    part: Part
    pushed: Pushed
    faults: FaultDraw
    bytes_down: int
    download_s: float
    train_s: float

    @property
    def trained_at_s(self) -> float:
        return self.pushed.now_s + self.download_s + self.train_s


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arrival:
    """An update that arrives in time: its row in the group's stack, its time, and the device's report."""

    row: int
    device: str
    at_s: float
    report: DeviceReport


@dataclass(slots=True, kw_only=True, eq=False)
class DispatchPlanner:
    """Carries assignments out, group by group, so that memory grows with `chunk_devices`, not with the cohort."""

    engine: Engine
    fleet: VirtualFleet
    workload: Workload
    traffic: Traffic
    cost: TrainCost
    chunk_devices: int

    def carry_out(self, assignments: Sequence[Pushed]) -> Iterator[Ended]:
        """Train and fold the updates that will count, and yield the ending of every pushed assignment that has one.

        An assignment that can no longer count, and one whose update arrives too late, yields nothing.
        """
        current = self.engine.open
        if current is None:
            raise RuntimeError("assignments were pushed without an open round")
        plans: dict[str, _Plan] = {}
        for pushed in assignments:
            part = Part(
                device=pushed.device,
                assignment=current.assignments[pushed.device],
                wire_assignment=current.wire_assignments[pushed.device],
            )
            plan = self._plan(part, pushed)
            ended = _cut_short(plan)
            if ended is not None:
                yield ended
            elif plan.trained_at_s < pushed.until_s:
                plans[pushed.device] = plan
        groups = in_groups(
            [plan.part for plan in plans.values()], self.engine.model.as_downloaded(), self.chunk_devices
        )
        for group, result in zip(groups, self.workload.train(groups), strict=True):
            yield from self._group(group, result, [plans[part.device] for part in group.parts], current.sum)

    def _plan(self, part: Part, pushed: Pushed) -> _Plan:
        device = self.fleet.devices[part.device]
        faults = draw_faults(
            device.kind,
            part.device,
            round_index=part.assignment.round,
            attempt=pushed.attempt,
            seed=self.fleet.seed,
            now_s=pushed.now_s,
        )
        bytes_down = self.traffic.down(part)
        return _Plan(
            part=part,
            pushed=pushed,
            faults=faults,
            bytes_down=bytes_down,
            download_s=download_seconds(bytes_down, device.profile, faults),
            train_s=self.cost.seconds(part.assignment, device.profile),
        )

    def _group(self, group: Group, result: GroupResult, plans: Sequence[_Plan], round_sum: RoundSum) -> Iterator[Ended]:
        sent = self.traffic.up(group, result.increments)
        arrivals: list[_Arrival] = []
        for row, (plan, metrics) in enumerate(zip(plans, result.metrics, strict=True)):
            if isinstance(metrics, Failure):
                yield Ended(
                    device=plan.part.device,
                    at_s=plan.trained_at_s,
                    ending=Ending.FAILED,
                    message=metrics.message,
                    out_of_memory=metrics.out_of_memory,
                )
                continue
            upload_s = upload_seconds(sent.sizes[row], self.fleet.devices[plan.part.device].profile, plan.faults)
            at_s = plan.trained_at_s + upload_s
            if at_s < plan.pushed.until_s:
                report = self._report(plan, metrics, upload_s, sent.sizes[row])
                arrivals.append(_Arrival(row=row, device=plan.part.device, at_s=at_s, report=report))
        refused = _counted(group, result, sent, arrivals, round_sum)
        for arrival in arrivals:
            message = refused.get(arrival.device)
            ending = Ending.ARRIVED if message is None else Ending.FAILED
            yield Ended(device=arrival.device, at_s=arrival.at_s, ending=ending, message=message or "")

    def _report(self, plan: _Plan, metrics: TrainingMetrics, upload_s: float, bytes_up: int) -> DeviceReport:
        return DeviceReport(
            metrics=metrics,
            phase_s={
                "download": plan.download_s,
                "prune": 0.0,
                "train": plan.train_s,
                "encode": 0.0,
                "upload": upload_s,
            },
            num_examples=self.fleet.devices[plan.part.device].profile.num_examples,
            steps=plan.part.assignment.local_steps,
            bytes_down=plan.bytes_down,
            bytes_up=bytes_up,
        )


def _counted(
    group: Group, result: GroupResult, sent: Sent, arrivals: Sequence[_Arrival], round_sum: RoundSum
) -> dict[str, str]:
    """Fold the updates that arrive, and return the reason by device for every update that was refused."""
    if not arrivals:
        return {}
    reports = [arrival.report for arrival in arrivals]
    if sent.increments is None:
        round_sum.count([arrival.device for arrival in arrivals], reports)
        return {}
    stack = UpdateStack(
        round=group.round,
        devices=tuple(part.device for part in group.parts),
        weights=tuple(part.assignment.weight for part in group.parts),
        rank=group.assignment.arm.rank,
        keep_set=group.assignment.keep_set,
        tensors=sent.increments,
        trains=group.assignment.training.trains,
    )
    rows = [arrival.row for arrival in arrivals]
    scores = [result.scores[row] if result.scores else None for row in rows]
    return dict(round_sum.fold_stack(stack.select(rows), reports, scores))


def _cut_short(plan: _Plan) -> Ended | None:
    """Return the fault that ends an attempt before its update exists; None without one."""
    busy_s = plan.download_s + plan.train_s
    for share, ending in ((plan.faults.vanishes_at, Ending.VANISHED), (plan.faults.fails_at, Ending.FAILED)):
        if share is not None:
            at_s = plan.pushed.now_s + share * busy_s
            message = "the simulation had it fail" if ending is Ending.FAILED else ""
            return Ended(device=plan.part.device, at_s=at_s, ending=ending, message=message)
    return None

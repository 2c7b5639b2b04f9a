"""How long a virtual device takes for the phases of a round, by the analytic cost model.

Training takes the cost model's operations over `flops_per_s`, times the device's slowdown; a transfer takes its bytes
over the link's speed, times the factor that the fault model drew for this assignment.
"""

from dataclasses import dataclass
from functools import lru_cache

from fedcore.core.contract.assignment import Assignment
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.cost.teacher import teacher_flops
from fedcore.core.cost.training_step import StepShape, transfer_seconds
from fedcore.core.model.adapter import AdapterSpec
from fedcore.core.pruning.criteria import CRITERIA
from fedcore.simulation.fleet.faults import FaultDraw

PROBES = 2  # forward passes: the loss before and after
_KNOWN = 1 << 12


@dataclass(frozen=True, slots=True)
class TrainCost:
    """Seconds of local training. `flops_per_s` is the speed of a device with slowdown 1."""

    spec: AdapterSpec
    max_length: int
    flops_per_s: float

    def seconds(self, assignment: Assignment, profile: DeviceProfile) -> float:
        """Return the seconds of an assignment's trial, probes, steps and scores on a device of this slowdown."""
        steps = assignment.cost_steps
        if assignment.score:
            steps += CRITERIA[assignment.training.importance].steps(assignment.local_steps)
        step = self._step(assignment)
        step_s, forward_s = _step_and_forward(step, self.flops_per_s)
        return (steps * step_s + PROBES * forward_s + self._teacher_s(assignment, step)) * profile.slowdown

    def _step(self, assignment: Assignment) -> StepShape:
        return StepShape(
            geometry=self.spec.geometry,
            kept=assignment.keep_set.counts,
            rank=assignment.arm.rank,
            targets=self.spec.targets,
            batch_size=assignment.training.batch_size,
            max_length=self.max_length,
            part=assignment.training.trains,
        )

    def _teacher_s(self, assignment: Assignment, step: StepShape) -> float:
        """Return the seconds of the dense model's answers, one batch per step; slowdown is left out. 0 without them."""
        if assignment.training.distillation is None:
            return 0.0
        return assignment.local_steps * teacher_flops(step) / self.flops_per_s


def download_seconds(num_bytes: int, profile: DeviceProfile, faults: FaultDraw) -> float:
    """Return the seconds in which a device downloads `num_bytes`."""
    return transfer_seconds(num_bytes, profile.downlink_mbps * faults.downlink)


def upload_seconds(num_bytes: int, profile: DeviceProfile, faults: FaultDraw) -> float:
    """Return the seconds in which a device uploads `num_bytes`."""
    return transfer_seconds(num_bytes, profile.uplink_mbps * faults.uplink)


@lru_cache(_KNOWN)
def _step_and_forward(step: StepShape, flops_per_s: float) -> tuple[float, float]:
    """Return the seconds of a step and of a forward pass: the same for all devices that train alike."""
    return step.seconds(flops_per_s), step.forward_flops() / flops_per_s

"""What a device's machine knows: a frozen value that `device.step` replaces."""

import math
from dataclasses import dataclass

from fedcore.core.text_enum import TextEnum


class Stage(TextEnum):
    """How far the job is."""

    WORKING = "working"  # downloads, trains, encodes and spools
    DELIVERING = "delivering"  # sends the spooled update
    STOPPING = "stopping"  # was told to stop and has not ended yet


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentId:
    """Names an assignment, and the update that answers it. Assignments that ask for the same have equal keys."""

    key: str
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The one thing the shell does at a time: an assignment's answer is made, or sent."""

    answers: AssignmentId
    stage: Stage
    pushed_again: bool = False  # since this attempt began: if it breaks, another one follows at once
    repushed: bool = False  # work on the answer began before the last push, perhaps for another parent


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceState:
    """Everything a device's machine knows. Begin with the update that an earlier process spooled.

    A parent is known by the number of the session with it: every welcome brings a larger one.
    """

    spool: AssignmentId | None = None  # the update on disk
    parent: int = 0  # of the newest session; 0 before the first
    connected: bool = False  # that session lasts
    pushed_by: int = 0  # parent that last pushed an assignment
    deadline_at_s: float = math.inf  # of the assignment pushed last; later after a reconnect
    job: Job | None = None
    next_assignment: AssignmentId | None = None  # to begin once the job has stopped
    uncommitted_round: int | None = None  # whose training result is in memory and awaits its verdict
    shut_down: bool = False  # the process ends: nothing begins any more

    @property
    def may_send(self) -> bool:
        """Whether a transfer may begin: the parent of the newest session has itself pushed the assignment."""
        return 0 < self.parent == self.pushed_by

"""What virtual devices keep between rounds, where a configuration asks for anything: files as a device has them."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedcore.client.training.encoding import encoded_update
from fedcore.client.training.residuals import Residuals
from fedcore.client.training.training_state import TrainingState, load_training_state, save_training_state
from fedcore.core.config.tables import TrainingConfig
from fedcore.core.model.geometry import Geometry
from fedcore.core.pruning.criteria import CRITERIA
from fedcore.core.rounds.result import RoundResult
from fedcore.simulation.workload.workload import Part


@dataclass(slots=True, kw_only=True)
class DeviceStates:
    """Optimiser moments and what criteria remember of virtual devices, in a folder each below `root`.

    Nothing is read or written unless `needed`; ten thousand devices that keep nothing have no folders.
    """

    root: Path
    needed: bool
    _prepared: dict[str, int] = field(default_factory=dict)  # device -> round

    @staticmethod
    def of(root: Path, training: TrainingConfig) -> "DeviceStates":
        """Keep what this training configuration carries over rounds."""
        return DeviceStates(root=root, needed=training.keep_optimizer or CRITERIA[training.importance].remembers)

    def load(self, device: str) -> TrainingState:
        """Return what was committed last."""
        return load_training_state(self._path(device)) if self.needed else TrainingState()

    def prepare(self, device: str, round_index: int, state: TrainingState) -> None:
        """Keep what a device has if its update of this round is accepted."""
        if self.needed:
            self._path(device).parent.mkdir(parents=True, exist_ok=True)
            save_training_state(self._next(device, round_index), state)
            self._prepared[device] = round_index

    def settle(self, closed: RoundResult) -> None:
        """Commit the states of devices accepted in this round and drop all others that were prepared."""
        accepted = set(closed.accepted)
        for device, number in self._prepared.items():
            if number == closed.round and device in accepted:
                self._next(device, number).replace(self._path(device))
            else:
                self._next(device, number).unlink()
        self._prepared.clear()

    def recover(self, closed: RoundResult) -> None:
        """Settle what an earlier process of the run had prepared; `closed` is the last round it closed."""
        for path in self.root.glob("*/training-*.safetensors"):
            self._prepared[path.parent.name] = int(path.stem.removeprefix("training-"))
        self.settle(closed)

    def _path(self, device: str) -> Path:
        return self.root / device / "training.safetensors"

    def _next(self, device: str, round_index: int) -> Path:
        return self.root / device / f"training-{round_index}.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFeedback:
    """Error feedback of virtual devices, in a folder each below `root`, as a device keeps it."""

    root: Path
    geometry: Geometry

    def send(self, part: Part, increment: dict[str, NDArray[np.float32]]) -> bytes:
        """Return the bytes of a device's update with what earlier ones left over; what these leave is prepared."""
        folder = self.root / part.device
        folder.mkdir(parents=True, exist_ok=True)
        residuals = Residuals(folder)
        residuals.settle(part.wire_assignment.counted_round)
        pieces = encoded_update(
            part.wire_assignment,
            increment,
            keep_set=part.assignment.keep_set,
            geometry=self.geometry,
            residuals=residuals,
        )
        return b"".join(pieces)

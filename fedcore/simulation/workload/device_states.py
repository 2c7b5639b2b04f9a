"""What virtual devices keep between rounds, in the files of a real device.

A state changes in two steps, as on a device: training prepares the next state beside the current one, and the close of
the round commits it if the update was accepted and drops it otherwise. A process that stops in between leaves prepared
files, which the resumed run settles first.
"""

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
    """Optimiser moments and criterion states of virtual devices, one folder per device below `root`.

    Nothing is read or written unless `needed`: devices that keep nothing have no folders.
    """

    root: Path
    needed: bool
    _prepared: dict[str, int] = field(default_factory=dict)  # device -> round

    @staticmethod
    def of(root: Path, training: TrainingConfig) -> "DeviceStates":
        """Return the states that this training configuration carries over rounds."""
        return DeviceStates(root=root, needed=training.keep_optimizer or CRITERIA[training.importance].remembers)

    def load(self, device: str) -> TrainingState:
        """Return the state that was committed last."""
        return load_training_state(self._path(device)) if self.needed else TrainingState()

    def prepare(self, device: str, round_index: int, state: TrainingState) -> None:
        """Write the state that a device has once its update of this round is accepted."""
        if self.needed:
            self._path(device).parent.mkdir(parents=True, exist_ok=True)
            save_training_state(self._next(device, round_index), state)
            self._prepared[device] = round_index

    def settle(self, closed: RoundResult) -> None:
        """Commit the prepared states of the devices accepted in this round and drop all other prepared ones."""
        accepted = set(closed.accepted)
        for device, number in self._prepared.items():
            if number == closed.round and device in accepted:
                self._next(device, number).replace(self._path(device))
            else:
                self._next(device, number).unlink()
        self._prepared.clear()

    def recover(self, closed: RoundResult) -> None:
        """Settle the states that an earlier process of the run had prepared; `closed` is the last round it closed."""
        for path in self.root.glob("*/training-*.safetensors"):
            self._prepared[path.parent.name] = int(path.stem.removeprefix("training-"))
        self.settle(closed)

    def _path(self, device: str) -> Path:
        return self.root / device / "training.safetensors"

    def _next(self, device: str, round_index: int) -> Path:
        return self.root / device / f"training-{round_index}.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFeedback:
    """Error feedback of virtual devices, one folder per device below `root`, in the files of a real device."""

    root: Path
    geometry: Geometry

    def send(self, part: Part, increment: dict[str, NDArray[np.float32]]) -> bytes:
        """Return the encoded update with the residual of earlier ones added, and prepare the new residual."""
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

"""What a node keeps between two messages: in its own folder, or, without one, in Flower's Context.

A node hears no verdict: its next assignment says which of its rounds counted last. Until then what training left waits
in a file that carries the round's number in its name.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flwr.app import ConfigRecord, Context

from fedcore.client.device.state import StateFolder
from fedcore.client.training.training_state import TrainingState, load_training_state, save_training_state
from fedcore.protos.records import RECORD

_WAITING = "training-next-"


@contextmanager
def node_folder(context: Context, place: Path | None) -> Iterator[StateFolder]:
    """Yield the node's folder; without a `place` its files come out of the Context, and go back unless the work fails.

    The Context travels with the node's messages through Flower's simulation, on a cluster as well.
    """
    if place is not None:
        yield StateFolder.open(place)
        return
    with tempfile.TemporaryDirectory(prefix="fedcore-") as scratch:
        root = Path(scratch)
        for name, data in context.state.config_records.get(RECORD, ConfigRecord()).items():
            if isinstance(data, bytes):
                (root / name).write_bytes(data)
        yield StateFolder.open(root)
        context.state[RECORD] = ConfigRecord(
            {path.name: path.read_bytes() for path in sorted(root.iterdir()) if path.is_file()}
        )


@dataclass(frozen=True, slots=True)
class NodeState:
    """Training state and keep-set of one node across rounds."""

    folder: StateFolder

    def settle(self, counted_round: int) -> TrainingState:
        """Take over what the last counted round left, drop what did not count, and return where the node stands."""
        self.folder.residuals.settle(counted_round)
        for file in self.folder.root.glob(f"{_WAITING}*"):
            if file.stem == f"{_WAITING}{counted_round}":
                file.replace(self.folder.training_state)
            else:
                file.unlink()
        state = load_training_state(self.folder.training_state)
        if state.holding is not None:
            self.folder.commit_keep_set(state.holding.keep_set)
        return state

    def keep(self, state: TrainingState, round_index: int) -> None:
        """Keep what training left until it is known whether round `round_index` counts."""
        save_training_state(self.folder.root / f"{_WAITING}{round_index}.safetensors", state)

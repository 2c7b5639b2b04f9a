"""What error feedback has not sent yet, kept in a device's folder across rounds and restarts.

Two files: what is left after all updates that counted, and what would be left if the last update, whose verdict is
open, counts as well. The next assignment says whether it did: whether a durably closed round holds it. The second file
is then renamed over the first, or deleted. So no part of a residual is ever sent twice, and none is lost with an update
that did not count.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fedcore.core.codec.feedback import Coordinates, Residual
from fedcore.core.model.keep_set import KeepSet
from fedcore.storage.atomic import write_atomic

_FACTS = "fedcore"


@dataclass(frozen=True, slots=True)
class Residuals:
    """The residual files in `root`."""

    root: Path

    def committed(self) -> Residual | None:
        """Return what is left, None for nothing and where the file is damaged."""
        try:
            with safe_open(self._committed, framework="np") as file:
                facts = json.loads((file.metadata() or {})[_FACTS])
                at = Coordinates(
                    basis=facts["basis"],
                    rank=facts["rank"],
                    keep_set=KeepSet.from_bytes(facts["keep_set"].encode()),
                )
                return Residual(at=at, tensors={name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        except Exception:  # whatever a damaged file makes its readers raise
            return None

    def prepare(self, residual: Residual, round_index: int) -> None:
        """Keep what is left if the update of `round_index`, not sent yet, counts."""
        facts = {
            "round": round_index,
            "basis": residual.at.basis,
            "rank": residual.at.rank,
            "keep_set": residual.at.keep_set.to_bytes().decode(),
        }
        tensors = {name: np.ascontiguousarray(value) for name, value in residual.tensors.items()}
        write_atomic(self._prepared, save(tensors, metadata={_FACTS: json.dumps(facts)}))

    def settle(self, counted_round: int) -> None:
        """Commit what is left after the last update if it counted; else go back to what was left before it.

        `counted_round` is the last round whose result holds an update of this device, as an assignment says. Where the
        file is too damaged to say its round, it counts as sent: a residual that is lost does less harm than one that
        is sent twice.
        """
        try:
            with safe_open(self._prepared, framework="np") as file:
                counted = int(json.loads((file.metadata() or {})[_FACTS])["round"]) == counted_round
        except FileNotFoundError:
            return
        except (OSError, SafetensorError, KeyError, ValueError, TypeError):
            counted = True
        if counted:
            self._prepared.replace(self._committed)
        else:
            self._prepared.unlink()

    @property
    def _committed(self) -> Path:
        return self.root / "residual.safetensors"

    @property
    def _prepared(self) -> Path:
        return self.root / "residual-next.safetensors"

"""What error feedback has not sent yet, kept in a device's folder across rounds and restarts.

Two files: what is left once everything counted so far is subtracted, and what would be left if the update whose fate
is open counts as well. Settling that update renames the second over the first, or deletes it, so that no part of a
residual is ever sent twice, and none is lost with an update that did not count.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fedcore.codec.feedback import Coordinates, Residual
from fedcore.errors import ProtocolError
from fedcore.keep_set import KeepSet
from storage.atomic import write_atomic

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
        except (OSError, SafetensorError, ProtocolError, KeyError, ValueError, TypeError, AttributeError):
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

    def open_round(self) -> int | None:
        """Return the round of the update whose fate is open, None where there is none; 0 where nobody can tell."""
        try:
            with safe_open(self._prepared, framework="np") as file:
                return int(json.loads((file.metadata() or {})[_FACTS])["round"])
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, KeyError, ValueError, TypeError):
            return 0

    def settle(self, *, counted: bool) -> None:
        """Take over what is left after the open update, or go back to what was left before it."""
        if counted:
            self._prepared.replace(self._committed)
        else:
            self._prepared.unlink(missing_ok=True)

    @property
    def _committed(self) -> Path:
        return self.root / "residual.safetensors"

    @property
    def _prepared(self) -> Path:
        return self.root / "residual-next.safetensors"

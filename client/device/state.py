"""What a device keeps between rounds and restarts: identity, keep-set, the unsent update, training state."""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

from fedcore.client.training.residuals import Residuals
from fedcore.core.errors import ProtocolError
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.convert.round import submission_from_bytes, submission_to_bytes
from fedcore.protos.values import BlobRef, UpdateSubmission
from fedcore.storage.atomic import write_atomic
from fedcore.storage.blobs.store import BlobStore
from fedcore.storage.process.identity import next_session, own_uuid


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledUpdate:
    """An encoded update that the coordinator has not yet closed a round with."""

    key: str  # of the assignment it answers
    submission: UpdateSubmission


@dataclass(frozen=True, slots=True)
class StateFolder:
    """A device's folder: mode 0700, one small file per fact, every write atomic."""

    root: Path
    _sound: set[str] = field(default_factory=set, compare=False)  # blobs of the update, hashed by this process

    @staticmethod
    def open(root: Path) -> "StateFolder":
        """Create the folder where it is missing."""
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        return StateFolder(root)

    @property
    def blobs(self) -> BlobStore:
        """Blobs this device holds: its hand-outs and its own unsent update."""
        return BlobStore(self.root / "blobs")

    @property
    def training_state(self) -> Path:
        """File of optimiser moments and smoothed importances."""
        return self.root / "training.safetensors"

    @property
    def residuals(self) -> Residuals:
        """What error feedback has not sent yet."""
        return Residuals(self.root)

    def identity(self) -> tuple[str, int]:
        """(device uuid, session epoch); every call is a new session, so the epoch rises by one."""
        return next_session(self.root / "identity.json")

    def uuid(self) -> str:
        """The device uuid, without beginning a session."""
        return own_uuid(self.root / "identity.json")

    def keep_set(self) -> KeepSet | None:
        """The committed keep-set, None before the first commit and where its file is damaged."""
        return _keep_set_in(self.root / "keep_set.json")

    def commit_keep_set(self, keep_set: KeepSet) -> None:
        """Remember what the coordinator has acknowledged."""
        write_atomic(self.root / "keep_set.json", keep_set.to_bytes())

    def spool(self, spooled: SpooledUpdate, keep_set: KeepSet) -> None:
        """Keep an update, and the keep-set it commits, until its round is closed durably.

        This process has put the update's blobs into `blobs`.
        """
        write_atomic(self._spooled_keep_set_path, keep_set.to_bytes())
        self._sound.update(ref.id for ref in _blobs_of(spooled.submission))
        write_atomic(self._spool_path, spooled.key.encode() + b"\n" + submission_to_bytes(spooled.submission))

    def spooled_update(self) -> SpooledUpdate | None:
        """The unsent or unacknowledged update, None where there is none or any part of it is damaged or gone."""
        spooled, blobs = self._read_spool(), self.blobs
        try:
            for ref in () if spooled is None else _blobs_of(spooled.submission):
                if ref.id not in self._sound or not blobs.has(ref.id):
                    blobs.read_bytes(ref.id)
                    self._sound.add(ref.id)
        except (FileNotFoundError, ProtocolError):
            return None
        return spooled

    def spooled_keep_set(self) -> KeepSet | None:
        """The keep-set that the spooled update commits; None where there is none, it is damaged or another's."""
        spooled, keep_set = self._read_spool(), _keep_set_in(self._spooled_keep_set_path)
        if spooled is None or keep_set is None or keep_set.blob_id != spooled.submission.keep_set:
            return None
        return keep_set

    def spooled_blobs(self) -> set[str]:
        """Names of the spooled update's blobs, sound or damaged."""
        spooled = self._read_spool()
        return set() if spooled is None else {ref.id for ref in _blobs_of(spooled.submission)}

    def clear_spool(self) -> None:
        """Forget the spooled update and its blobs, sound or damaged."""
        blob_ids = self.spooled_blobs()
        self._spool_path.unlink(missing_ok=True)
        self._spooled_keep_set_path.unlink(missing_ok=True)
        self._sound.clear()
        for blob_id in blob_ids:
            with contextlib.suppress(ProtocolError):  # a torn spool may name no blob
                self.blobs.delete(blob_id)

    def _read_spool(self) -> SpooledUpdate | None:
        try:
            key, _, data = self._spool_path.read_bytes().partition(b"\n")
            return SpooledUpdate(key=key.decode(), submission=submission_from_bytes(data))
        except (FileNotFoundError, ProtocolError, UnicodeDecodeError):
            return None

    @property
    def _spool_path(self) -> Path:
        return self.root / "update.spool"

    @property
    def _spooled_keep_set_path(self) -> Path:
        return self.root / "update.keep_set.json"


def _keep_set_in(path: Path) -> KeepSet | None:
    try:
        return KeepSet.from_bytes(path.read_bytes())
    except (FileNotFoundError, ProtocolError):
        return None


def _blobs_of(submission: UpdateSubmission) -> tuple[BlobRef, ...]:
    return tuple(ref for ref in (submission.update, submission.scores) if ref is not None)

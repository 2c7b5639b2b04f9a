"""Who this process is to the tier above: a uuid made once, and an epoch that rises with every session."""

import json
import uuid
from pathlib import Path

from fedcore.storage.atomic import write_atomic


def next_session(path: Path) -> tuple[str, int]:
    """Return (uuid, session epoch) of a new session and note it in `path`; the first epoch is 1."""
    name, epoch = _held(path)
    _note(path, name, epoch + 1)
    return name, epoch + 1


def own_uuid(path: Path) -> str:
    """Return the uuid of whoever keeps its identity in `path`, without beginning a session."""
    name, epoch = _held(path)
    _note(path, name, epoch)
    return name


def _held(path: Path) -> tuple[str, int]:
    try:
        held = json.loads(path.read_bytes())
        return str(held["uuid"]), int(held["epoch"])
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):  # none yet, or spoilt by a power cut
        return uuid.uuid4().hex, 0


def _note(path: Path, name: str, epoch: int) -> None:
    write_atomic(path, json.dumps({"uuid": name, "epoch": epoch}).encode(), mode=0o600)

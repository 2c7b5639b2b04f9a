"""The identity of this process to the tier above: a uuid made once, and an epoch that rises with every session."""

import json
import uuid
from pathlib import Path

from fedcore.storage.atomic import write_atomic


def next_session(path: Path) -> tuple[str, int]:
    """Return (uuid, epoch) of a new session and record it in `path`; the first epoch is 1."""
    name, epoch = _read(path)
    _write(path, name, epoch + 1)
    return name, epoch + 1


def own_uuid(path: Path) -> str:
    """Return the uuid that `path` records, without beginning a session; makes one where there is none."""
    name, epoch = _read(path)
    _write(path, name, epoch)
    return name


def _read(path: Path) -> tuple[str, int]:
    try:
        identity = json.loads(path.read_bytes())
        return str(identity["uuid"]), int(identity["epoch"])
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):  # not yet written, or damaged
        return uuid.uuid4().hex, 0


def _write(path: Path, name: str, epoch: int) -> None:
    write_atomic(path, json.dumps({"uuid": name, "epoch": epoch}).encode(), mode=0o600)

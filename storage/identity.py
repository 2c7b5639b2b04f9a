"""Who this process is to the tier above: a uuid made once, and an epoch that rises with every session."""

import json
import uuid
from pathlib import Path

from storage.atomic import write_atomic


def next_session(path: Path) -> tuple[str, int]:
    """Return (uuid, session epoch) of a new session and note it in `path`; the first epoch is 1."""
    try:
        held = json.loads(path.read_bytes())
        name, epoch = str(held["uuid"]), int(held["epoch"]) + 1
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # none yet, or spoilt by a power cut
        name, epoch = uuid.uuid4().hex, 1
    write_atomic(path, json.dumps({"uuid": name, "epoch": epoch}).encode(), mode=0o600)
    return name, epoch

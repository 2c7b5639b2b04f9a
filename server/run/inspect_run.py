"""Inspect a run from outside: read its state, and derive its choices again."""

import os

from fedcore.core.bandit.replay import committed, replay
from fedcore.core.contract.protocols import Json
from fedcore.server.run.journal import read_events
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.run_folder import RunFolder, read_settings
from fedcore.storage.json_file import read_endpoint, read_object
from fedcore.strategies.table import bandit_of


def run_status(folder: RunFolder) -> Json:
    """Return a run's progress, and its summary once it has one; safe while it runs.

    "address" is the address of its coordinator (None: it does not run), "advice" says how to go on.
    """
    config = read_settings(folder)
    status: Json = {"name": config.run.name, "total_rounds": config.run.rounds, "next_round": 1, "summary": None}
    status |= {"address": _address(folder), "advice": None}
    if folder.ledger.is_file():
        ledger = Ledger.open(folder.ledger, read_only=True)
        try:
            status["next_round"] = ledger.load().next_round
        finally:
            ledger.close()
    if folder.summary.is_file():
        status["summary"] = read_object(folder.summary, remedy="move it away and resume the run")
    elif status["address"] is not None:
        status["advice"] = f"running, listening on {status['address']}"
    else:
        command = "fleet" if folder.logs.is_dir() else "serve"
        status["advice"] = f"not running; go on with: fedcore {command} --resume {folder.root}"
    return status


def _address(folder: RunFolder) -> str | None:
    endpoint = read_endpoint(folder.endpoint)
    if endpoint is None:
        return None
    try:
        os.kill(endpoint.pid, 0)  # signal 0 tests for life; a killed coordinator leaves its file behind
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        pass  # the process lives, under another user
    return endpoint.address


def replay_run(folder: RunFolder) -> int:
    """Derive every choice of the run again and return their number; raises RunError at the first difference."""
    config = read_settings(folder)
    events = list(read_events(folder.events))
    replay(events, bandit_of(config), config.run.seed)
    return sum(event["event"] == "choice" for event in committed(events))

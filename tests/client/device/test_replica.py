"""Names for replicas: who comes first gets the first, nobody gets another's, and a dead one's is free at once."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedcore.client.device.replica import claim_replica
from fedcore.client.device.state import StateFolder
from fedcore.core.errors import ConfigError

CHILD = """
import sys, time
from pathlib import Path
from fedcore.client.device.replica import claim_replica
from fedcore.client.device.state import StateFolder
slot = claim_replica(Path(sys.argv[1]), "nx")
print(slot.name, *StateFolder.open(slot.folder).identity(), flush=True)
time.sleep(60)
"""


class Replica:
    """A process that holds a slot until it is killed."""

    def __init__(self, state: Path) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", CHILD, str(state)], stdout=subprocess.PIPE, text=True)

    def held(self) -> tuple[str, str, int]:
        """(name, uuid, epoch), once it holds them."""
        assert self.process.stdout is not None
        name, uuid, epoch = self.process.stdout.readline().split()
        return name, uuid, int(epoch)

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def test_processes_that_start_at_once_get_different_names(tmp_path: Path) -> None:
    state = tmp_path / "state"
    replicas = [Replica(state) for _ in range(4)]
    try:
        held = [each.held() for each in replicas]
        assert sorted(name for name, _, _ in held) == ["nx-0", "nx-1", "nx-2", "nx-3"]
        assert len({uuid for _, uuid, _ in held}) == 4 and {epoch for _, _, epoch in held} == {1}
        by_name = {name: (uuid, replica) for (name, uuid, _), replica in zip(held, replicas, strict=True)}

        uuid, killed = by_name["nx-2"]
        killed.kill()
        replicas.append(Replica(state))
        assert replicas[-1].held() == ("nx-2", uuid, 2), "the next one is that device, in a new session"
        replicas.append(Replica(state))
        assert replicas[-1].held()[0] == "nx-4"
    finally:
        for each in replicas:
            if each.process.poll() is None:
                each.kill()


def test_prefixes_share_a_folder(tmp_path: Path) -> None:
    slots = [claim_replica(tmp_path, prefix) for prefix in ("nx", "agx", "nx")]
    assert [slot.name for slot in slots] == ["nx-0", "agx-0", "nx-1"]
    assert [slot.folder for slot in slots] == [tmp_path / slot.name for slot in slots]
    assert slots[0].folder.stat().st_mode & 0o777 == 0o700
    slots[0].release()
    assert claim_replica(tmp_path, "nx").name == "nx-0"


def test_a_uuid_can_be_told_without_a_session(tmp_path: Path) -> None:
    state = StateFolder.open(tmp_path)
    uuid = state.uuid()
    assert state.uuid() == uuid and state.identity() == (uuid, 1) and state.uuid() == uuid
    assert state.identity() == (uuid, 2)


def test_a_prefix_must_begin_a_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'N X-0'"):
        claim_replica(tmp_path, "N X")
    with pytest.raises(ConfigError, match="1-63 characters"):
        claim_replica(tmp_path, "n" * 62)

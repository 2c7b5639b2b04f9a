"""The fleet of docker-compose.yml, built and run for real: scaled, hurt, restarted, and counted afterwards."""

import json
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedcore.core.contract.protocols import Json
from tests.e2e.composed import BUILD_S, Composed
from tests.tiny_models import tiny_model
from tests.whole.stage import texts

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3000)]

ROUNDS = 30
IMAGES = ("fedcore-coordinator", "fedcore-device")
NAMES = {f"{name}-{number}" for name, count in (("agx", 2), ("nx", 4), ("tx2", 2)) for number in range(count)}
UP = ("up", "--detach", "--no-build")
LIGHT_BYTES = 250 * 10**6
CONFIG = f"""
[run]
name = "e2e"
rounds = {ROUNDS}
[model]
path = "set by docker-compose.yml"
max_length = 16
[data]
labels = ["neg", "pos"]
test_fraction = 0.2
shards = 10
[strategy]
ranks = [2, 4]
warmup_rounds = 2
[training]
local_steps = 300
[coordinator]
listen = "0.0.0.0:8443"
min_devices = 6
lease_s = 10.0
round_deadline_s = 60.0
join_deadline_s = 600.0
[evaluation]
rows_per_round = 50
[[fleet.class]]
name = "agx"
target_sparsity = 0.25
[[fleet.class]]
name = "nx"
target_sparsity = 0.25
[[fleet.class]]
name = "tx2"
target_sparsity = 0.5
"""


@dataclass(frozen=True)
class Lived:
    """What a fleet went through: the folder of its run, and what was killed on the way."""

    fleet: Composed
    folder: Path
    summary: Json
    killed: tuple[str, ...]
    times: dict[str, float]

    def events(self, kind: str) -> list[Json]:
        lines = (self.folder / "events.jsonl").read_text().splitlines()
        return [each for each in map(json.loads, lines) if each["event"] == kind]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    place = tmp_path_factory.mktemp("e2e")
    local = place / "local"
    tiny_model(local / "model", "bert")
    rows = "".join(f"{text},{label}\n" for text, label in texts(("neg", "pos"), 600))
    (local / "rows.csv").write_text("text,label\n" + rows)
    (place / "fleet.toml").write_text(CONFIG)
    for each in (place, *place.rglob("*")):  # containers read it as somebody else
        each.chmod(0o755 if each.is_dir() else 0o644)
    variables = {
        "FEDCORE_CONFIG": str(place / "fleet.toml"),
        "FEDCORE_LOCAL": str(local),
        "FEDCORE_MODEL": "/local/model",
        "FEDCORE_DATA": "/local/rows.csv",
    }
    made = Composed(project=f"fedcore-e2e-{os.getpid()}", variables=variables, run="e2e")
    try:
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout", "5")


@pytest.fixture(scope="module")
def lived(fleet: Composed, tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """A run from the build to its end, and everything that happens to it on the way."""
    times: dict[str, float] = {}

    def took(what: str, since: float) -> float:
        times[what] = round(time.monotonic() - since, 1)
        return time.monotonic()

    clock = time.monotonic()
    fleet.compose("build", "coordinator", "fetch", seconds=BUILD_S)
    clock = took("build", clock)
    fleet.compose(*UP, seconds=BUILD_S)
    clock = took("up", clock)
    closed = _closing(fleet)
    closed(1)
    clock = took("first round", clock)

    # Newcomers take their time to import torch, more of it than a round: what befalls the others happens meanwhile.
    fleet.compose(*UP, "--no-recreate", "--no-deps", "--scale", "nx=4", "nx")
    victims = [fleet.containers(service)[0] for service in ("edge-a", "agx", "tx2")]
    fleet.docker("kill", *victims)
    closed(2)
    clock = took("nx=4, three kills, and two rounds", clock)

    fleet.docker("start", victims[1])  # it comes back
    fleet.compose("restart", "coordinator")
    fleet.eventually("the coordinator goes on", lambda: len(fleet.events("started")) == 2)
    closed(1)
    clock = took("the coordinator restarted, and a round", clock)

    fleet.docker("rm", victims[2])  # it is replaced
    fleet.compose(*UP, "--no-recreate", "--no-deps", "--scale", "tx2=2", "tx2")
    fleet.eventually("all eight are here", lambda: _joined_since_the_restart(fleet) == NAMES)
    clock = took("until all eight were here", clock)

    coordinator = fleet.containers("coordinator")[0]
    fleet.eventually("the run ends", lambda: fleet.exit_code(coordinator) is not None, 300.0)
    assert fleet.exit_code(coordinator) == 0, fleet.logs()
    took("rest of the run, exports included", clock)
    folder = tmp_path_factory.mktemp("runs")
    fleet.docker("cp", f"{coordinator}:/runs/e2e/.", str(folder))
    summary = json.loads((folder / "summary.json").read_text())
    return Lived(fleet=fleet, folder=folder, summary=summary, killed=tuple(victims), times=times)


def _closing(fleet: Composed):  # type: ignore[no-untyped-def]
    """A function that waits until so many more rounds are closed."""

    def closed(count: int) -> None:
        target = len(fleet.events("committed")) + count
        fleet.eventually(f"{target} rounds are closed", lambda: len(fleet.events("committed")) >= target)

    return closed


def _joined_since_the_restart(fleet: Composed) -> set[str]:
    events = fleet.events()
    begun = max((number for number, each in enumerate(events) if each["event"] == "started"), default=0)
    return {each["device"] for each in events[begun:] if each["event"] == "joined" and each["role"] == "device"}


def test_the_run_came_to_its_end(lived: Lived) -> None:
    print(json.dumps(lived.times, indent=1))
    rounds = [each for each in lived.summary["rounds"] if not each["void"]]
    assert len(rounds) >= ROUNDS and lived.summary["rounds"][-1]["round"] >= ROUNDS
    assert [each["event"] for each in lived.events("finished")] == ["finished"]
    assert len(lived.events("started")) == 2, "begun once, gone on once"


def test_every_class_has_its_export(lived: Lived) -> None:
    for device_class in ("agx", "nx", "tx2"):
        export = lived.folder / "exports" / device_class
        assert (export / "model.safetensors").is_file() and (export / "config.json").is_file()
        measured = lived.summary["classes"][device_class]
        assert measured["test"]["rows"] > 0 and measured["parameters"] < measured["dense_parameters"]


def test_nobody_was_counted_twice(lived: Lived) -> None:
    for each in lived.summary["rounds"]:
        counted = Counter(row["device"] for row in each["results"])
        assert set(counted.values()) == {1}, each["round"]
        assert each["accepted"] == sum(row["status"] == "accepted" for row in each["results"]) <= 8


def test_devices_came_back_as_who_they_were(lived: Lived) -> None:
    sessions: dict[str, list[int]] = {}
    rows: dict[str, set[int]] = {}
    for each in lived.events("joined"):
        if each["role"] == "device":
            sessions.setdefault(each["device"], []).append(each["epoch"])
            rows.setdefault(each["device"], set()).add(each["num_examples"])
    assert set(rows) == NAMES
    assert all(len(counts) == 1 for counts in rows.values()), "the same shard in every session"
    # An edge that comes back presents the sessions it has, so an epoch may be told twice; it never falls.
    assert all(epochs == sorted(epochs) for epochs in sessions.values()), sessions
    last = {row["device"]: row["status"] for row in lived.summary["rounds"][-1]["results"]}
    assert sum(status == "accepted" for status in last.values()) >= 6, last


def test_replicas_share_no_shard(lived: Lived) -> None:
    ledger = sqlite3.connect(lived.folder / "ledger.sqlite")
    (held,) = ledger.execute("SELECT value FROM meta WHERE key = 'shards'").fetchone()
    ledger.close()
    devices = [each["device"] for each in json.loads(held)]
    assert len(devices) == len(set(devices)) == 8
    assert len({each["uuid"] for each in json.loads(held)}) == 8


def test_the_others_ended_with_the_run(lived: Lived) -> None:
    fleet = lived.fleet
    services = ("edge-b", "agx", "nx", "tx2", "evaluator")
    containers = [each for service in services for each in fleet.containers(service)]
    assert len(containers) == 1 + 2 + 4 + 2 + 1
    fleet.eventually("all end", lambda: all(fleet.exit_code(each) is not None for each in containers))
    assert {each: fleet.exit_code(each) for each in containers} == dict.fromkeys(containers, 0), fleet.logs()


def test_nobody_ran_with_more_than_needed(lived: Lived) -> None:
    for service in ("coordinator", "edge-b", "agx", "evaluator"):
        described = lived.fleet.state(lived.fleet.containers(service)[0])
        assert described["Config"]["User"] == "fedcore"
        host = described["HostConfig"]
        assert host["ReadonlyRootfs"] and not host["Privileged"] and host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
    limits = [lived.fleet.state(lived.fleet.containers(name)[0])["HostConfig"] for name in ("agx", "nx", "tx2")]
    assert len({each["NanoCpus"] for each in limits}) == len({each["Memory"] for each in limits}) == 3


def test_the_image_without_torch_is_small(lived: Lived) -> None:
    sizes = {name: lived.fleet.state(name)["Size"] for name in IMAGES}
    print({name: f"{size / 1e6:.0f} MB" for name, size in sizes.items()})
    assert sizes["fedcore-coordinator"] <= LIGHT_BYTES
    modules = "import importlib.util as f; print(f.find_spec('torch') is None)"
    words = ("run", "--rm", "--network=none", "--entrypoint=python3", "fedcore-coordinator", "-c", modules)
    assert lived.fleet.docker(*words) == "True\n"


def test_up_after_the_end_begins_the_next_run(lived: Lived) -> None:
    fleet = lived.fleet
    fleet.compose(*UP, "--no-recreate", "coordinator")
    begun = "ls /runs/e2e-2/coordinator.json"
    coordinator = fleet.containers("coordinator")[0]
    fleet.eventually("it listens", lambda: _succeeds(fleet, coordinator, begun), 30.0)
    certified = fleet.docker("logs", fleet.containers("certs")[0])
    assert certified.count("handed nx its certificate") == 1, "keys are made once"


def _succeeds(fleet: Composed, container: str, words: str) -> bool:
    try:
        fleet.docker("exec", container, *words.split())
    except AssertionError:
        return False
    return True

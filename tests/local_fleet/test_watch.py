import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from fedcore.core.config.tables import ClassConfig, Config, CoordinatorConfig, RunConfig
from fedcore.core.errors import RunError
from fedcore.local_fleet.processes import Child
from fedcore.local_fleet.progress import RunProgress
from fedcore.local_fleet.watch import EVALUATOR, Crew, watch
from fedcore.server.run.run_folder import RunFolder

STAY = "import time; time.sleep(60)"
FAIL = "raise SystemExit('error: training needs 12 MiB; raise memory_mb')"
KILLED = "import os; os.kill(os.getpid(), 9)"
CHOICE = {"event": "choice", "round": 1, "device": "a-0", "arm": {"sparsity": 0.0, "rank": 2}}


class Shown:
    """A view that remembers."""

    def __init__(self) -> None:
        self.last = RunProgress(total_rounds=0)

    def show(self, progress: RunProgress) -> None:
        self.last = progress


class Cast:
    """Processes in the parts of a fleet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.children: list[Child] = []

    def child(self, name: str, code: str) -> Child:
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen([sys.executable, "-c", code], stdout=output, stderr=subprocess.STDOUT)
        self.children.append(Child(name, process, log))
        return self.children[-1]

    def crew(self, *, min_devices: int, **codes: str) -> Crew:
        config = Config(
            run=RunConfig(rounds=3),
            coordinator=CoordinatorConfig(min_devices=min_devices),
            classes=(ClassConfig(name="a", count=2),),
        )
        members = {name: self.child(name, code) for name, code in codes.items()}
        return Crew(config=config, coordinator=self.child("coordinator", STAY), members=members)


@pytest.fixture
def cast(tmp_path: Path):
    made = Cast(tmp_path)
    yield made
    for each in made.children:
        each.process.kill()
        each.process.wait()


def write(folder: RunFolder, *events: dict[str, object]) -> None:
    with folder.events.open("a") as file:
        file.writelines(json.dumps({"t": 1.0, **each}) + "\n" for each in events)


def test_a_run_that_can_never_begin_ends_with_the_reason(cast: Cast, tmp_path: Path) -> None:
    crew = cast.crew(min_devices=2, a=STAY, b=FAIL)
    shown = Shown()
    with pytest.raises(RunError) as told:
        watch(RunFolder(tmp_path), crew, shown)
    assert str(told.value) == (
        "1 of 2 devices have ended, and the run needs 2 to begin; "
        "the last one, b: training needs 12 MiB; raise memory_mb"
    )
    assert shown.last.notes == ("b ended: training needs 12 MiB; raise memory_mb",)
    assert {name: line.state for name, line in shown.last.devices.items()} == {"a": "starting", "b": "ended"}


def test_a_run_that_has_begun_goes_on_with_the_rest(cast: Cast, tmp_path: Path) -> None:
    folder, shown = RunFolder(tmp_path), Shown()
    write(folder, {"event": "started"}, CHOICE)
    crew = cast.crew(min_devices=2, a=STAY, b=FAIL, evaluator=FAIL)
    for name in ("b", EVALUATOR):
        crew.members[name].process.wait(20)
    threading.Timer(1.0, crew.coordinator.process.kill).start()
    watch(folder, crew, shown)
    assert [note.split(":")[0] for note in shown.last.notes] == ["b ended", "evaluator ended"]


def test_a_run_that_has_begun_ends_without_devices(cast: Cast, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write(folder, {"event": "started"}, CHOICE)
    with pytest.raises(RunError, match="2 of 2 devices have ended, and the run needs 1 to go on; the last one, b: "):
        watch(folder, cast.crew(min_devices=2, a=FAIL, b=FAIL, evaluator=STAY), Shown())


def test_choices_before_a_resume_do_not_count_as_a_beginning(cast: Cast, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write(folder, {"event": "started"}, CHOICE, {"event": "started"})
    with pytest.raises(RunError, match="needs 2 to begin"):
        watch(folder, cast.crew(min_devices=2, a=STAY, b=FAIL), Shown())


def test_devices_that_were_sent_home_are_not_missed(cast: Cast, tmp_path: Path) -> None:
    crew = cast.crew(min_devices=2, a="pass", b="pass")
    threading.Timer(1.0, crew.coordinator.process.kill).start()
    begun = time.monotonic()
    watch(RunFolder(tmp_path), crew, Shown())
    assert time.monotonic() - begun < 20


def test_a_dead_edge_is_told_and_ends_nothing(cast: Cast, tmp_path: Path) -> None:
    folder, shown = RunFolder(tmp_path), Shown()
    write(folder, {"event": "started"}, CHOICE)
    crew = cast.crew(min_devices=1, a=STAY)
    edge = cast.child("edge-1-0", "import os; os.kill(os.getpid(), 9)")
    edge.process.wait(20)
    threading.Timer(1.0, crew.coordinator.process.kill).start()
    watch(folder, replace(crew, edges={"edge-1-0": edge}), shown)
    assert shown.last.notes == ("edge-1-0 ended: killed by SIGKILL",)
    assert "edge-1-0" not in shown.last.devices


def without_coordinator(cast: Cast, crew: Crew, code: str = "raise SystemExit('error: 0 were here')") -> Crew:
    """The same fleet, whose coordinator has ended."""
    ended = cast.child("coordinator", code)
    ended.process.wait(20)
    return replace(crew, coordinator=ended)


def test_members_of_a_coordinator_that_was_killed_tell_no_cause(cast: Cast) -> None:
    crew = cast.crew(min_devices=1, a="print('a: 127.0.0.1:4: UNAVAILABLE: gone; trying again')")
    crew.members["a"].process.wait(20)
    assert without_coordinator(cast, crew, KILLED).causes() == ""
    assert without_coordinator(cast, crew, "pass").causes() == ""
    assert without_coordinator(cast, crew).causes() == "; a says: 127.0.0.1:4: UNAVAILABLE: gone"


def test_what_members_say_is_wrong_ends_the_coordinators_last_words(cast: Cast) -> None:
    refused = "127.0.0.1:4: UNAVAILABLE: Connection refused"
    codes = {name: f"print('{name}: {refused}; trying again', flush=True); {STAY}" for name in ("a", "b")}
    crew = without_coordinator(cast, cast.crew(min_devices=2, **codes, evaluator=KILLED))
    crew.members[EVALUATOR].process.wait(20)
    deadline = time.monotonic() + 20
    while not all(crew.members[name].output() for name in codes) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert crew.causes() == f"; 2 of 3 members say: {refused}; evaluator says: killed by SIGKILL"


def test_what_an_earlier_process_said_is_not_said_again(cast: Cast) -> None:
    log = cast.folder / "a.log"
    log.write_text("a: round 1 failed: long ago\nerror: stopped on request\n", encoding="utf-8")
    crew = without_coordinator(cast, cast.crew(min_devices=1, b="print('b: joined; labels x')"))
    crew.members["b"].process.wait(20)
    earlier = replace(crew.members["b"], name="a", log=log, begin=log.stat().st_size)
    assert replace(crew, members={"a": earlier}).causes() == (
        "; its members were still starting: raise coordinator.join_deadline_s"
    )
    assert earlier.last_words() == "no output"

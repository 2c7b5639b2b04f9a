"""Edges are started from the top down, each told where those above it listen."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import fedcore.local_fleet.edges as module
from fedcore.core.errors import RunError
from fedcore.local_fleet.edges import listening_at, start_edges
from fedcore.local_fleet.processes import Child
from fedcore.server.run.run_folder import RunFolder

EDGE = """
import json, os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
text = json.dumps({"address": f"{folder.name}:1", "pid": os.getpid(), "tls": True})
(folder / "new").write_text(text)
(folder / "new").rename(folder / "edge.json")
time.sleep(60)
"""


class Stage:
    """Processes that listen, or do what `code` says."""

    def __init__(self, logs: Path, code: str = EDGE) -> None:
        self.logs, self.code = logs, code
        self.started: dict[str, list[str]] = {}
        self.children: list[Child] = []

    def start(self, name: str, arguments: Sequence[str]) -> Child:
        self.started[name] = list(arguments)
        log = self.logs / f"{name}.log"
        state = arguments[arguments.index("--state") + 1]
        with log.open("wb") as output:
            process = subprocess.Popen([sys.executable, "-c", self.code, state], stdout=output, stderr=output)
        self.children.append(Child(name, process, log))
        return self.children[-1]


@pytest.fixture
def stages(tmp_path: Path) -> Iterator[list[Stage]]:
    made: list[Stage] = []
    yield made
    for stage in made:
        for child in stage.children:
            child.process.kill()
            child.process.wait()


def words(arguments: Sequence[str], flag: str) -> str:
    return arguments[arguments.index(flag) + 1]


def test_every_edge_gets_the_addresses_of_its_parents(tmp_path: Path, stages: list[Stage]) -> None:
    stage = Stage(tmp_path)
    stages.append(stage)
    tree = start_edges(RunFolder(tmp_path), (1, 2), stage, "root:1")  # type: ignore[arg-type]
    assert list(stage.started) == ["edge-1-0", "edge-2-0", "edge-2-1"] == list(tree.children)
    assert words(stage.started["edge-1-0"], "--upstream") == "root:1"
    assert words(stage.started["edge-2-1"], "--upstream") == "edge-1-0:1,root:1"
    assert words(stage.started["edge-2-1"], "--state") == str(tmp_path / "edges" / "edge-2-1")
    assert words(stage.started["edge-2-1"], "--certs") == str(tmp_path / "certs")
    assert words(stage.started["edge-2-1"], "--advertise") == ""
    assert tree.targets(0) == "edge-2-0:1,edge-2-1:1,edge-1-0:1,root:1"
    assert tree.targets(3) == "edge-2-1:1,edge-2-0:1,edge-1-0:1,root:1"


def test_a_flat_fleet_has_the_coordinator_alone(tmp_path: Path) -> None:
    tree = start_edges(RunFolder(tmp_path), (), Stage(tmp_path), "root:1")  # type: ignore[arg-type]
    assert tree.children == {} and tree.targets(7) == "root:1"


def test_an_edge_that_ends_at_once_is_told_with_its_words(tmp_path: Path, stages: list[Stage]) -> None:
    stage = Stage(tmp_path, "raise SystemExit('error: cannot listen on 127.0.0.1:0')")
    stages.append(stage)
    with pytest.raises(RunError, match=r"edge-1-0: cannot listen on 127\.0\.0\.1:0"):
        start_edges(RunFolder(tmp_path), (1,), stage, "root:1")  # type: ignore[arg-type]


def test_what_an_earlier_process_wrote_does_not_count(
    tmp_path: Path, stages: list[Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "START_DEADLINE_S", 0.2)
    stage = Stage(tmp_path, "import time; time.sleep(60)")
    stages.append(stage)
    child = stage.start("edge-1-0", ["--state", "x"])
    (tmp_path / "edge.json").write_text(json.dumps({"address": "old:1", "pid": os.getpid()}))
    with pytest.raises(RunError, match=r"edge-1-0 did not listen within 0.2 s \(log: "):
        listening_at(tmp_path / "edge.json", child)
    (tmp_path / "edge.json").write_text(json.dumps({"address": "new:1", "pid": child.process.pid}))
    assert listening_at(tmp_path / "edge.json", child) == "new:1"

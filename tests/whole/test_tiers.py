"""The same run flat, below one tier of edges and below two: equal bits; and an edge killed in the middle of a round."""

import csv
import hashlib
import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from fedcore.core.contract.protocols import Json
from tests.whole.stage import Stage, Started, children, events, eventually, summary_of, texts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROUNDS = 3
CONFIG = """
[run]
name = "tiers"
seed = 5
rounds = 3
[model]
path = "{model}"
max_length = 16
[data]
train = "rows.csv"
[strategy]
ranks = [2, 4]
bandit = "fixed"
reward_times = "model"
warmup_rounds = 1
recovery_rounds = 0
[training]
local_steps = 2
batch_size = 8
codec = "bf16+zstd"
[coordinator]
min_devices = 3
quorum = 1.0
lease_s = {lease_s}
[evaluation]
rows_per_round = 0
[fleet]
edges = {edges}
[[fleet.class]]
name = "big"
count = 2
target_sparsity = 0.25
slowdown = {slowdown}
[[fleet.class]]
name = "small"
target_sparsity = 0.5
"""
DEVICES = ("big-0", "big-1", "small-0")
PATIENCE_S = 240.0  # of a whole fleet, on a busy machine
SHAPES = {"flat": "[]", "two tiers": "[2]", "three tiers": "[2, 2]"}
TREES = ("two tiers", "three tiers")


def prepare(stage: Stage, model: Path, **values: object) -> None:
    with (stage.root / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *texts(("neg", "pos"), 120)])
    text = CONFIG.format(**{"model": model, "lease_s": 30.0, "edges": "[]", "slowdown": 1.0} | values)
    (stage.root / "cfg.toml").write_text(text)


@dataclass(frozen=True)
class Finished:
    """A run that has ended: its folder, its summary, and the global adapter's hash after every round."""

    run: Path
    summary: Json
    rounds: dict[str, str]

    @property
    def adapter(self) -> dict[str, str]:
        """Hashes of the tensors the run leaves behind."""
        names = ("adapter_model.safetensors", "head.safetensors")
        return {name: hashlib.sha256((self.run / "global" / name).read_bytes()).hexdigest() for name in names}


def committed(run: Path) -> dict[str, str]:
    """What the ledger holds as the global adapter: its hash by its round."""
    if not (run / "ledger.sqlite").is_file():
        return {}
    with closing(sqlite3.connect(f"file:{run / 'ledger.sqlite'}?mode=ro", uri=True, timeout=10)) as ledger:
        try:
            rows = ledger.execute("SELECT global_blobs FROM head").fetchall()
        except sqlite3.OperationalError:  # its tables are being made
            return {}
    return {name: digest for (blobs,) in rows for name, digest in json.loads(blobs)}


def followed(fleet: Started, run: Path) -> dict[str, str]:
    """Look into the ledger until the fleet ends: every hash it held."""
    held: dict[str, str] = {}

    def over() -> bool:
        held.update(committed(run))
        return fleet.process.poll() is not None

    eventually("the fleet ends", over, PATIENCE_S)
    return held | committed(run)


Fleets = Callable[[str], Finished]


@pytest.fixture(scope="module")
def finished(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Fleets:
    """One run per shape, all else equal; each is made when it is first asked for."""

    @cache
    def run_of(shape: str) -> Finished:
        stage = Stage(tmp_path_factory.mktemp("tiers"))
        try:
            prepare(stage, bert, edges=SHAPES[shape])
            run = stage.root / "run"
            fleet = stage.start("fleet", "fleet", "cfg.toml", "--plain", "--run-dir", "run")
            rounds = followed(fleet, run)
            assert fleet.ends() == 0, fleet.output()[-3000:]
            assert children(fleet.process.pid) == []
            return Finished(run, summary_of(run), rounds)
        finally:
            stage.close()

    return run_of


@pytest.mark.parametrize("shape", TREES)
def test_edges_change_no_bit_of_any_global_adapter(finished: Fleets, shape: str) -> None:
    flat, tree = finished("flat"), finished(shape)
    assert [name for name in flat.rounds if name != "round-0"] == ["round-1", "round-2", "round-3"]
    assert tree.rounds == flat.rounds
    assert tree.adapter == flat.adapter


@pytest.mark.parametrize("shape", SHAPES)
def test_every_device_is_counted_in_every_round(finished: Fleets, shape: str) -> None:
    for told in finished(shape).summary["rounds"]:
        assert {row["device"]: row["status"] for row in told["results"]} == dict.fromkeys(DEVICES, "accepted")


@pytest.mark.parametrize("shape", TREES)
def test_the_bandit_learns_the_same_of_every_leaf(finished: Fleets, shape: str) -> None:
    def learned(summary: Json) -> list[tuple[object, ...]]:
        return [
            (told["round"], *(row[key] for key in ("device", "sparsity", "rank", "reward")))
            for told in summary["rounds"]
            for row in told["results"]
        ]

    assert learned(finished(shape).summary) == learned(finished("flat").summary)


@pytest.mark.parametrize(("shape", "edges"), [("two tiers", 2), ("three tiers", 4)])
def test_every_process_of_a_tree_is_content(finished: Fleets, shape: str, edges: int) -> None:
    run = finished(shape).run
    logs = {log.stem: log.read_text() for log in (run / "logs").iterdir()}
    assert len([name for name in logs if name.startswith("edge-")]) == edges
    assert {"coordinator", "evaluator", *DEVICES} < set(logs)
    for name, text in logs.items():
        assert "Traceback" not in text and "Warning" not in text and "error" not in text.lower(), (name, text)
    assert {each["device"] for each in events(run, "accepted")} == set(DEVICES)


def test_devices_sit_below_the_lowest_edges(finished: Fleets) -> None:
    run = finished("three tiers").run
    joined = events(run, "joined")
    assert {each["device"] for each in joined if each["role"] == "edge"} == {"edge-1-0", "edge-1-1"}
    through = {each["device"]: each.get("via") for each in joined if each["role"] == "device"}
    assert set(through) == set(DEVICES) and set(through.values()) == {"edge-1-0", "edge-1-1"}


@pytest.mark.long
def test_a_newcomer_is_sent_to_the_edge_that_holds_the_model(stage: Stage, bert: Path) -> None:
    assert stage.run("certs", "certs", "--class", "cam", "--edge", "near", "--edge", "far").returncode == 0
    prepare(stage, bert, edges="[]")
    settings = ("--set", "run.rounds=1", "--set", "coordinator.min_devices=2", "--set", 'data.labels=["neg", "pos"]')
    coordinator = stage.start("serve", "serve", "cfg.toml", *settings, "--run-dir", "run", "--certs", "certs")

    def listening(path: str) -> str:
        eventually(path, (stage.root / path).is_file)
        return str(json.loads((stage.root / path).read_text())["address"])

    def edge(name: str, *words: object) -> Started:
        return stage.start(
            name, "edge", "--upstream", root, "--name", name, "--certs", "certs", "--state", name, *words
        )

    def join(name: str, target: str) -> Started:
        words = ("--class", "cam", "--identity", "cam", "--certs", "certs", "--data", "rows.csv", "--state", name)
        return stage.start(name, "join", target, "--name", name, *words)

    root = listening("run/coordinator.json")
    edges = [edge("far"), edge("near")]
    far, near = listening("far/edge.json"), listening("near/edge.json")
    eventually("both are in", lambda: len(events(stage.root / "run", "joined")) == 2)
    first = join("cam-0", f"{near},{root}")
    eventually("the first is in", lambda: len(events(stage.root / "run", "joined")) == 3)
    second = join("cam-1", root)
    assert coordinator.ends(PATIENCE_S) == 0, coordinator.output()
    for each in (first, second, *edges):
        assert each.ends() == 0, each.output()
    assert "sent to" not in first.output(), "it sat there already, and nobody knows of anything better"
    assert f"sent to {near}\n" in second.output(), f"{far} has fewer devices, and would have to bring the model"
    (told,) = summary_of(stage.root / "run")["rounds"]
    assert {row["device"]: row["status"] for row in told["results"]} == {"cam-0": "accepted", "cam-1": "accepted"}


def pid_of(fleet: Started, name: str) -> int:
    """The process of a fleet that runs edge `name`."""
    for pid in children(fleet.process.pid):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"edge" in words and name.encode() in words:
            return pid
    raise AssertionError(f"{name} does not run")


def test_devices_of_a_killed_edge_move_within_a_lease_and_are_counted_once(stage: Stage, bert: Path) -> None:
    lease_s = 8.0
    prepare(stage, bert, edges="[2]", lease_s=lease_s, slowdown=60.0)
    run = stage.root / "run"
    fleet = stage.start("fleet", "fleet", "cfg.toml", "--plain", "--run-dir", "run")
    eventually("everybody works", lambda: {each["device"] for each in events(run, "pushed")} == set(DEVICES))

    # One of its devices has delivered, the other is still at it: neither is counted yet.
    delivered = run / "logs" / "small-0.log"
    eventually("a device has delivered to its edge", lambda: "round 1: sparsity" in delivered.read_text())
    assert not events(run, "accepted")
    begun = time.time()
    os.kill(pid_of(fleet, "edge-1-0"), signal.SIGKILL)
    below = ("big-0", "small-0")  # the first edge's, for devices are dealt out

    def moved() -> bool:
        again = {each["device"] for each in events(run, "joined") if each["t"] > begun}
        return again >= set(below)

    eventually("its devices are back", moved)
    took = max(each["t"] for each in events(run, "joined") if each["device"] in below) - begun
    assert took < lease_s
    assert fleet.ends(PATIENCE_S) == 0, fleet.output()[-3000:]
    check_each_counted_once(run)
    assert "edge-1-0 ended: killed by SIGKILL" in fleet.output()
    assert delivered.read_text().count("round 1: sparsity") == 2, "delivered again, without training"
    for name in below:
        assert "Traceback" not in (run / "logs" / f"{name}.log").read_text()


@pytest.mark.long
def test_a_tree_goes_on_where_an_upper_edge_is_killed(stage: Stage, bert: Path) -> None:
    prepare(stage, bert, edges="[2, 2]", lease_s=8.0, slowdown=60.0)
    run = stage.root / "run"
    fleet = stage.start("fleet", "fleet", "cfg.toml", "--plain", "--run-dir", "run")
    eventually("everybody works", lambda: {each["device"] for each in events(run, "pushed")} == set(DEVICES))
    delivered = run / "logs" / "small-0.log"
    eventually("a device has delivered to its edge", lambda: "round 1: sparsity" in delivered.read_text())
    os.kill(pid_of(fleet, "edge-1-0"), signal.SIGKILL)
    assert fleet.ends(PATIENCE_S) == 0, fleet.output()[-3000:]
    check_each_counted_once(run)
    assert "Traceback" not in (run / "logs" / "edge-2-0.log").read_text()


def check_each_counted_once(run: Path) -> None:
    """Every device is counted in every round, and once."""
    for told in summary_of(run)["rounds"]:
        assert {row["device"]: row["status"] for row in told["results"]} == dict.fromkeys(DEVICES, "accepted")
    accepted = [(each["round"], each["device"]) for each in events(run, "accepted")]
    assert sorted(accepted) == [(number, device) for number in range(1, ROUNDS + 1) for device in DEVICES]

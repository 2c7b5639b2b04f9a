"""fedcore fleet: the folder it makes, the options it passes on, and how it ends."""

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import fedcore.local_fleet.preflight as preflight
import fedcore.local_fleet.run as fleet_run
from fedcore.core.config.tables import Config
from fedcore.core.errors import RunError
from fedcore.local_fleet.run import FleetOptions
from fedcore.local_fleet.view import PlainView, View
from fedcore.server.run.run_folder import RunFolder
from tests.cli.conftest import Fedcore
from tests.local_fleet.finished_run import Json, class_of, round_of, summary_of

SUMMARY = summary_of([round_of(1)], {"agx": class_of()})


@dataclass
class FakeFleet:
    """A fleet that does nothing but write its summary, or that ends in an exception."""

    error: BaseException | None = None
    finishes: bool = True
    begins: bool = True
    calls: list[tuple[RunFolder, Config, FleetOptions, View]] = field(default_factory=list)

    def run(self, folder: RunFolder, config: Config, options: FleetOptions, view: View) -> Json:
        self.calls.append((folder, config, options, view))
        if self.begins:
            folder.events.write_text('{"t":0,"event":"started"}\n')
        if self.finishes:
            folder.summary.write_text(json.dumps(SUMMARY))
        if self.error is not None:
            raise self.error
        return SUMMARY


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeFleet]:
    fake = FakeFleet()
    monkeypatch.setattr(fleet_run, "run_fleet", fake.run)
    monkeypatch.setattr(preflight, "try_model", lambda config: ("cuda:0", "cuda:1"))  # the tiny model has no tokenizer
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield fake
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_a_new_fleet_has_its_folder_and_checked_configuration(place: Path, fedcore: Fedcore, fleet: FakeFleet) -> None:
    said = fedcore("fleet", "cfg.toml", "--set", "run.rounds=5", "--reference", "--metrics", "127.0.0.1:9464")
    assert said.code == 0, said.err
    ((folder, config, options, view),) = fleet.calls
    assert folder.root == Path("runs/tiny")
    assert "rounds = 5" in folder.config.read_text()
    assert (config.run.rounds, config.data.labels) == (5, ("neg", "pos"))
    assert options == FleetOptions(reference=True, metrics="127.0.0.1:9464", accelerators=("cuda:0", "cuda:1"))
    assert isinstance(view, PlainView), "output goes to a file"
    opening = said.out.splitlines()[:4]
    assert opening[:2] == ["run folder: runs/tiny", "metrics: http://127.0.0.1:9464/metrics"]
    assert opening[2].startswith("rows: 35 to train on, 5 held back; 2 labels: ")
    assert opening[3].startswith("devices: 3 with ") and "fewest on " in opening[3]
    assert said.out.endswith("summary: runs/tiny/summary.json\nexports: runs/tiny/exports\n")


def test_json_alone_goes_to_stdout(place: Path, fedcore: Fedcore, fleet: FakeFleet) -> None:
    said = fedcore("fleet", "cfg.toml", "--run-dir", "here", "--json")
    assert json.loads(said.out) == SUMMARY
    assert [line.split(":")[0] for line in said.err.splitlines()][:3] == ["run folder", "rows", "devices"]


@pytest.mark.parametrize("finishes", [False, True])
def test_ctrl_c_says_how_to_continue_unless_the_run_has_finished(
    place: Path, fedcore: Fedcore, fleet: FakeFleet, finishes: bool
) -> None:
    fleet.error, fleet.finishes = KeyboardInterrupt(), finishes
    said = fedcore("fleet", "cfg.toml")
    assert said.code == 1
    onward = "" if finishes else " Go on with: fedcore fleet --resume runs/tiny"
    assert said.err == f"\nstopped; every process has ended.{onward}\nlook at it with: fedcore show runs/tiny\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RunError("cannot listen on localhost:1")], ids=repr)
def test_a_fleet_that_fails_before_it_begins_leaves_no_folder(
    place: Path, fedcore: Fedcore, fleet: FakeFleet, error: BaseException
) -> None:
    fleet.error, fleet.finishes, fleet.begins = error, False, False
    (place / "mine").mkdir()
    for words in ((), ("--run-dir", "new/one"), ("--run-dir", "mine")):
        said = fedcore("fleet", "cfg.toml", *words)
        assert said.code == 1 and "--resume" not in said.err and "fedcore show" not in said.err
    assert not (place / "runs").exists() and not (place / "new").exists()
    assert not list((place / "mine").iterdir())


def test_a_fleet_resumes_with_its_own_configuration(place: Path, fedcore: Fedcore, fleet: FakeFleet) -> None:
    fleet.finishes = False
    fedcore("fleet", "cfg.toml", "--set", "run.rounds=5")
    said = fedcore("fleet", "--resume", "runs/tiny")
    assert said.code == 0, said.err
    assert [config.run.rounds for _, config, _, _ in fleet.calls] == [5, 5]
    assert [options.accelerators for _, _, options, _ in fleet.calls] == [("cuda:0", "cuda:1")] * 2
    refused = fedcore("fleet", "cfg.toml", "--resume", "runs/tiny")
    assert refused.code == 1 and "--resume goes on with the run's own configuration" in refused.err

"""fedcore simulate: the run it makes or continues, and how it ends."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import fedcore.simulation.run as simulation_run
from fedcore.server.run.run import Run
from fedcore.simulation.setup import SimulationSetup
from tests.cli.conftest import Fedcore
from tests.local_fleet.finished_run import Json, class_of, round_of, summary_of

SUMMARY = summary_of([round_of(1)], {"agx": class_of()})
UNTRAINED = ("--set", "simulation.training=none")


@dataclass
class FakeSimulation:
    """A simulation that writes a summary, or is interrupted, and closes its run as the real one does."""

    interrupted: bool = False
    begins: bool = True
    calls: list[tuple[SimulationSetup, Run]] = field(default_factory=list)
    references: list[bool] = field(default_factory=list)

    def simulate(self, setup: SimulationSetup, run: Run, observers: Sequence[object], *, reference: bool) -> Json:
        with run:
            self.references.append(reference)
            self.calls.append((setup, run))
            if self.begins:
                run.open_log().event("started")
            if self.interrupted:
                raise KeyboardInterrupt
            run.folder.summary.write_text(json.dumps(SUMMARY))
            return SUMMARY


@pytest.fixture
def simulation(place: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSimulation:
    fake = FakeSimulation()
    monkeypatch.setattr(simulation_run, "simulate", fake.simulate)
    return fake


def test_a_new_simulation_has_its_folder_and_devices(fedcore: Fedcore, simulation: FakeSimulation) -> None:
    said = fedcore("simulate", "cfg.toml", *UNTRAINED)
    assert said.code == 0, said.err
    assert said.out.startswith("run folder: runs/tiny\n3 virtual devices, training none\n")
    assert said.out.endswith("summary: runs/tiny/summary.json\n")
    ((setup, run),) = simulation.calls
    assert setup.config.run.rounds == 3
    assert run.folder.root == Path("runs/tiny") and run.folder.config.is_file()


def test_json_alone_goes_to_stdout(fedcore: Fedcore, simulation: FakeSimulation) -> None:
    said = fedcore("simulate", "cfg.toml", *UNTRAINED, "--json", "--run-dir", "here")
    assert json.loads(said.out) == SUMMARY
    assert said.err.startswith("run folder: here\n")


def test_a_simulation_stopped_before_it_begins_leaves_no_folder(
    place: Path, fedcore: Fedcore, simulation: FakeSimulation
) -> None:
    simulation.interrupted, simulation.begins = True, False
    said = fedcore("simulate", "cfg.toml", *UNTRAINED)
    assert said.code == 1 and said.err.endswith("\nstopped; nothing has run, and no folder is left\n")
    assert not (place / "runs").exists()


def test_an_interrupted_simulation_resumes_with_its_own_configuration(
    fedcore: Fedcore, simulation: FakeSimulation
) -> None:
    simulation.interrupted = True
    said = fedcore("simulate", "cfg.toml", *UNTRAINED, "--set", "run.rounds=7")
    assert said.code == 1
    assert said.err.endswith("\nstopped; go on with: fedcore simulate --resume runs/tiny\n")
    simulation.interrupted = False
    assert fedcore("simulate", "--resume", "runs/tiny").code == 0
    assert [setup.config.run.rounds for setup, _ in simulation.calls] == [7, 7]
    refused = fedcore("simulate", "--resume", "runs/tiny", "--set", "run.rounds=1")
    assert refused.code == 1 and "leave out the file and --set" in refused.err


def test_a_reference_needs_rows_to_train_on(fedcore: Fedcore, simulation: FakeSimulation) -> None:
    refused = fedcore("simulate", "cfg.toml", *UNTRAINED, "--reference")
    assert refused.code == 1 and 'simulation.training = "none" reads none; leave the reference out' in refused.err
    assert not Path("runs").exists() and simulation.references == []
    assert fedcore("simulate", "cfg.toml", *UNTRAINED).code == 0
    assert simulation.references == [False]

"""The wheel holds one name, `fedcore`, and works in a folder whose files carry the names of its rooms."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_models import tiny_model
from tests.tiny_run import write_model

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LINKED = ("server", "client", "strategies", "protos")
SOURCES = ("fedcore", *LINKED, "pyproject.toml", "README.md", "LICENSE")
TRAPS = (*LINKED, "cli", "storage", "fleet", "simulation", "transport", "nn", "core", "api")
PATIENCE_S = 200

SIMULATION = """
[run]
name = "none"
rounds = 2
[model]
path = "model"
max_length = 8
[strategy]
ranks = [1, 2]
warmup_rounds = 1
recovery_rounds = 0
[simulation]
training = "none"
[[fleet.class]]
name = "phone"
count = 3
"""
FLEET = """
[run]
name = "one"
rounds = 1
[model]
path = "real"
max_length = 16
[data]
train = "rows.csv"
labels = ["neg", "pos"]
test_fraction = 0.2
[strategy]
ranks = [2]
target_sparsity = 0.0
[training]
local_steps = 1
batch_size = 2
[coordinator]
min_devices = 2
[[fleet.class]]
name = "phone"
count = 2
"""
EVERY_NAME = """
import importlib, pkgutil, pathlib, sys
import fedcore
assert pathlib.Path(sys.prefix) in pathlib.Path(fedcore.__file__).parents, fedcore.__file__
for name in fedcore.__all__:
    getattr(fedcore, name)
modules = [each.name for each in pkgutil.walk_packages(fedcore.__path__, "fedcore.")]
for name in modules:
    importlib.import_module(name)
print(len(modules))
"""


@dataclass(frozen=True)
class Installed:
    """A wheel, and an environment that it was installed into."""

    wheel: Path
    environment: Path

    def run(self, *words: object, place: Path) -> "subprocess.CompletedProcess[str]":
        """Run a program of the environment in the folder `place`."""
        program, *rest = map(str, words)
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        return subprocess.run(
            [str(self.environment / "bin" / program), *rest],
            cwd=place,
            env=kept | {"HF_HUB_OFFLINE": "1", "HOME": str(place), "COLUMNS": "80"},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build the wheel from a copy of the sources, for building writes into them, and install it."""
    root = tmp_path_factory.mktemp("wheel")
    source = root / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", root, source)
    [wheel] = root.glob("fedcore-*.whl")
    environment = root / "environment"
    venv.create(environment, symlinks=True)
    [packages] = environment.glob("lib/python*/site-packages")
    # Where our dependencies lie. No .pth file there is read, so an editable fedcore stays out of sight.
    (packages / "dependencies.pth").write_text(f"{Path(np.__file__).parents[1]}\n")
    pip("--python", environment / "bin" / "python", "install", "--no-deps", "--no-index", wheel)
    return Installed(wheel, environment)


def pip(*words: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, words)],
        env=os.environ | {"PIP_NO_INDEX": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A folder of somebody's own modules, which break whatever imports them."""
    for name in TRAPS:
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('the {name}.py of this folder was imported')\n")
    write_model(tmp_path / "model")
    (tmp_path / "simulation.toml").write_text(SIMULATION)
    return tmp_path


def test_one_top_level_name_and_everything_in_it(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
    tops = {name.partition("/")[0] for name in entries}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"fedcore"}
    wanted = ["py.typed", "protos/v1/fleet.proto", "protos/v1/fleet_pb2.py", "protos/v1/fleet_pb2.pyi"]
    wanted += ["server/serve.py", "client/device/run.py", "strategies/table.py", "protos/wire.py", "__main__.py"]
    assert [name for name in wanted if f"fedcore/{name}" not in entries] == []
    sources = {
        path.relative_to(ROOT).as_posix() if folder == "fedcore" else f"fedcore/{path.relative_to(ROOT).as_posix()}"
        for folder in ("fedcore", *LINKED)
        for path in (ROOT / folder).rglob("*.py")
    }
    assert {name for name in entries if name.endswith(".py")} == sources
    assert all(entry.external_attr >> 28 != 0o12 for entry in entries.values())  # no link among them


def test_every_name_and_module_can_be_imported(installed: Installed, trap: Path) -> None:
    done = installed.run("python", "-c", EVERY_NAME, place=trap)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) > 400


@pytest.mark.parametrize("command", [("fedcore",), ("python", "-m", "fedcore")], ids=" ".join)
def test_a_simulation_beside_modules_of_the_same_names(
    installed: Installed, trap: Path, command: tuple[str, ...]
) -> None:
    done = installed.run(*command, "simulate", "simulation.toml", place=trap)
    assert done.returncode == 0, done.stderr
    assert "summary: runs/none/summary.json" in done.stdout


def test_a_program_beside_modules_of_the_same_names(installed: Installed, trap: Path) -> None:
    program = "import fedcore\nprint(fedcore.simulate('simulation.toml', rounds=1).summary['totals']['rounds'])\n"
    (trap / "program.py").write_text(program)
    done = installed.run("python", "program.py", place=trap)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


@pytest.mark.long
def test_a_fleet_beside_modules_of_the_same_names(installed: Installed, trap: Path) -> None:
    tiny_model(trap / "real", "bert")
    (trap / "fleet.toml").write_text(FLEET)
    rows = [f"the film was {('bad', 'good')[number % 2]} {number},{('neg', 'pos')[number % 2]}" for number in range(40)]
    (trap / "rows.csv").write_text("\n".join(["text,label", *rows, ""]))
    done = installed.run("fedcore", "fleet", "fleet.toml", "--plain", place=trap)
    assert done.returncode == 0, done.stderr
    assert "summary: runs/one/summary.json" in done.stdout

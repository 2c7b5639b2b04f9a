"""Modules that register parts of one's own: found by name or file, here and by other processes."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fedcore
from fedcore.api.plugins import load_plugins, with_own_modules
from fedcore.core.bandit.fixed import FixedArm
from fedcore.core.errors import ConfigError
from fedcore.strategies.table import STRATEGIES

PLUGIN = """
import fedcore
@fedcore.strategy({name!r})
def own(config):
    return config
"""


@pytest.fixture(autouse=True)
def _modules() -> Iterator[None]:
    """Leave no module of a test imported."""
    yield
    for name in [name for name in sys.modules if name.startswith("own_") or name == "beside_it"]:
        del sys.modules[name]


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text(text)
    return path


def named(name: str, **more: str) -> fedcore.Config:
    return fedcore.load_config({"strategy": {"name": name, **more}})


def test_a_file_is_imported_once_and_named_by_its_absolute_path(place: Path) -> None:
    write(place, "own_file", PLUGIN.format(name="of-a-file"))
    assert load_plugins(["own_file.py", "./own_file.py"]) == (str(place / "own_file.py"),) * 2
    assert load_plugins("own_file.py") == (str(place / "own_file.py"),)
    assert "of-a-file" in STRATEGIES


def test_a_file_finds_the_modules_beside_it(place: Path) -> None:
    write(place / "methods", "beside_it", PLUGIN.format(name="of-a-neighbour"))
    write(place / "methods", "own_outer", "import beside_it\n")
    load_plugins(["methods/own_outer.py"])
    assert "of-a-neighbour" in STRATEGIES
    assert sys.path[0] != str(place / "methods")  # searched last: it shadows nothing


def test_a_name_is_looked_for_on_the_path(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(place / "methods", "own_module", PLUGIN.format(name="of-a-module"))
    write(place / "methods" / "own_package", "inner", PLUGIN.format(name="of-a-package"))
    monkeypatch.syspath_prepend(str(place / "methods"))
    found = load_plugins(["own_module", "own_package.inner"])
    assert found == (str(place / "methods" / "own_module.py"), "own_package.inner")
    assert {"of-a-module", "of-a-package"} <= set(STRATEGIES)


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (
            "no_such_module",
            "^no module 'no_such_module' for plugin no_such_module: looked on PYTHONPATH and .*PYTHONPATH",
        ),
        ("no_such.module", "^no module 'no_such' for plugin no_such.module"),
        ("no_such.py", "^no file no_such.py for a plugin"),
        ("broken.py", "^plugin broken.py cannot be imported: ZeroDivisionError: division by zero$"),
        (
            "wanting.py",
            "^plugin wanting.py cannot be imported: ModuleNotFoundError: No module named 'no_such_library'$",
        ),
        ("json.py", "^plugin json.py: a module called 'json' is imported already; rename the file$"),
        ("./words.txt", "^plugin words.txt: expected a Python file, such as my_module.py$"),
    ],
)
def test_what_cannot_be_imported_is_told(place: Path, plugin: str, message: str) -> None:
    write(place, "broken", "1 / 0\n")
    write(place, "wanting", "import no_such_library\n")
    write(place, "json", "")
    (place / "words.txt").touch()
    with pytest.raises(ConfigError, match=message):
        load_plugins([plugin])
    assert "broken" not in sys.modules


def test_the_running_program_is_no_plugin(place: Path) -> None:
    program = write(place, "program", "import fedcore\nfedcore.fleet({}, plugins=['program.py'])\n")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, cwd=place)
    assert done.stderr.splitlines()[-1].endswith(
        "plugin program.py is the program that is running; move what it registers into a file of its own"
    )


def test_modules_of_named_parts_go_along_unasked(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    methods = write(place / "methods", "own_method", PLUGIN.format(name="mine"))
    monkeypatch.syspath_prepend(str(place / "methods"))
    __import__("own_method")
    assert with_own_modules(named("mine"), ("other",)) == ("other", str(methods))
    assert with_own_modules(named("mine"), (str(methods),)) == (str(methods),)
    assert with_own_modules(named("fedspine"), ()) == ()


def test_the_parts_that_a_strategy_takes_go_along_too(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The strategy of one module may name the bandit of another."""
    bandits = write(
        place / "methods",
        "own_bandits",
        "import fedcore\nfrom fedcore.core.bandit.fixed import FixedArm\n"
        "fedcore.bandit('calm')(lambda config: FixedArm(name='calm', sparsity=0.0, rank=2))\n",
    )
    method = write(
        place / "methods",
        "own_method",
        "import fedcore\nimport own_bandits\n@fedcore.strategy('mine')\n"
        "def own(config):\n    return fedcore.load_config(config, {'strategy.bandit': 'calm'})\n",
    )
    monkeypatch.syspath_prepend(str(place / "methods"))
    __import__("own_method")
    assert with_own_modules(named("mine"), ()) == (str(method), str(bandits))


def test_parts_of_the_running_program_cannot_go_along() -> None:
    def calm(config: fedcore.StrategyConfig) -> fedcore.Bandit:
        return FixedArm(name="calm", sparsity=0.0, rank=2)

    calm.__module__ = "__main__"
    fedcore.bandit("calm")(calm)
    message = r"^bandit 'calm' is registered in the program that is running, .*plugins=\[\"my_module.py\"\]\)$"
    with pytest.raises(ConfigError, match=message):
        with_own_modules(named("fedspine", bandit="calm"), ())

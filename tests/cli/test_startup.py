"""Commands start at once, and each works on a machine that lacks what it does not need."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TORCH_SIDE = ("torch", "transformers", "peft", "datasets", "pyarrow")
HEAVY = (*TORCH_SIDE, "numpy", "grpc", "cryptography", "safetensors")
MOST_CPU_S = 0.6

WITHOUT = """
import json, sys
for name in json.loads(sys.argv.pop(1)):
    sys.modules[name] = None  # importing it raises ImportError, as where it is not installed
from fedcore.cli.main import run
run()
"""


def without(missing: tuple[str, ...], *words: object, place: Path) -> "subprocess.CompletedProcess[str]":
    """Run `fedcore WORDS` where the modules in `missing` cannot be imported."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, json.dumps(missing), *map(str, words)],
        cwd=place,
        env=os.environ | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "words", [("--help",), ("fetch",), ("doctor",), ("join", "--help"), ("edge", "--help"), ("certs", "--help")]
)
def test_help_and_small_commands_load_nothing_heavy(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = without(HEAVY, *words, place=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_they_take_little_time(tmp_path: Path) -> None:
    for words in (("--help",), ("doctor",)):
        took = []
        for _ in range(2):  # the better of two: the first may have to compile
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(
                [sys.executable, "-m", "fedcore.cli.main", *words], cwd=tmp_path, capture_output=True, timeout=60
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert min(took) < MOST_CPU_S, words


def test_a_coordinator_needs_no_client_library(place: Path) -> None:
    made = without(TORCH_SIDE, "certs", "certs", "--host", "coord.example", place=place)
    assert made.returncode == 0, made.stderr
    words = ("--run-dir", "run", "--certs", "certs", "--set", "coordinator.join_deadline_s=0.3")
    served = without(TORCH_SIDE, "serve", "cfg.toml", *words, place=place)
    assert served.returncode == 1
    assert "listening on 127.0.0.1:" in served.stdout
    assert served.stderr.startswith("error: round 1 needs 3 device(s) and 0 were here after 0.3 s; start more devices")
    assert served.stderr.endswith("go on with: fedcore serve --resume run --certs certs\n")
    shown = without(TORCH_SIDE, "show", "run", "--json", place=place)
    assert shown.returncode == 0, shown.stderr
    status = json.loads(shown.stdout)
    assert (status["name"], status["next_round"], status["summary"]) == ("tiny", 1, None)
    shown = without(TORCH_SIDE, "show", "run", "--replay", place=place)
    assert "waiting for devices, 0 joined" in shown.stdout
    assert "not running; go on with: fedcore serve --resume run" in shown.stdout
    assert "replayed 0 choices: all equal" in shown.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("join", "localhost:1", "--name", "a", "--data", "rows.csv", "--insecure"),
        ("fleet", "cfg.toml"),
        ("export", "run", "--class", "agx", "--out", "x"),
    ],
)
def test_what_needs_torch_says_how_to_get_it(place: Path, words: tuple[str, ...]) -> None:
    (place / "run").mkdir()
    (place / "run" / "config.toml").touch()
    done = without(TORCH_SIDE, *words, place=place)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: fedcore {words[0]} needs torch, transformers, peft, datasets, pyarrow; ")
    assert "pip install 'fedcore[client]'" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "begun", "told"),
    [
        (
            ("serve", "cfg.toml", "--insecure", "--run-dir", "run"),
            "listening on",
            "stopped on request in round 1; this round starts anew when the run is resumed; "
            "go on with: fedcore serve --resume run --insecure",
        ),
        (
            ("join", "127.0.0.1:1", "--name", "cam", "--data", "rows.csv", "--insecure", "--state", "state"),
            "trying again",
            "stopped on request; start it again to come back to the run",
        ),
    ],
)
def test_ctrl_c_ends_in_a_line_that_says_how_to_go_on(
    place: Path, words: tuple[str, ...], begun: str, told: str
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "fedcore.cli.main", *words],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert any(begun in line for line in process.stdout)  # reads until it has begun
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1
    assert complaints.splitlines()[-1] == f"error: {told}"
    assert "Traceback" not in complaints


def test_flower_is_an_extra_and_its_absence_is_told(place: Path) -> None:
    for words in (("serve", "my-app", "--insecure"), ("join", "127.0.0.1:1", "my-app", "--name", "a", "--insecure")):
        asked = without(("flwr",), "flower", *words, place=place)
        assert asked.returncode == 1
        assert asked.stderr.endswith("error: Flower is not installed; add it with: pip install 'fedcore[flower]'\n")
    shown = without(("flwr",), "serve", "--help", place=place)
    assert shown.returncode == 0, shown.stderr

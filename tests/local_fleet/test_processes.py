import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedcore.local_fleet.processes import Child, Processes
from fedcore.storage.process.orphan import PARENT_VARIABLE

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


def child(folder: Path, code: str, name: str = "a") -> Child:
    """Run `code` as a member of a fleet would run."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=output, stderr=subprocess.STDOUT)
    return Child(name, process, log)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "print('joined'); raise SystemExit('error: no label column; name it\\nlater noise')",
            "no label column; name it",
        ),
        ("print('one'); print('two'); raise SystemExit(1)", "two"),
        ("raise SystemExit(1)", "no output"),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL"),
    ],
)
def test_last_words(tmp_path: Path, code: str, words: str) -> None:
    ended = child(tmp_path, code)
    ended.process.wait(20)
    assert ended.failed
    assert ended.last_words() == words


def test_a_process_that_ends_without_an_error_has_not_failed(tmp_path: Path) -> None:
    good = child(tmp_path, "print('the run has finished')")
    good.process.wait(20)
    assert not good.failed
    running = child(tmp_path, "import time; time.sleep(60)", "b")
    assert not running.failed
    running.process.kill()
    running.process.wait(20)


def test_children_know_their_parent_and_run_on_one_thread(tmp_path: Path) -> None:
    with Processes(tmp_path / "logs") as processes:
        started = processes.start("doctor", ["doctor", "--json"])
        place = Path(f"/proc/{started.process.pid}/environ")
        deadline = time.monotonic() + 10
        while not (environment := place.read_bytes()) and time.monotonic() < deadline:
            time.sleep(0.001)  # the kernel is still putting the process in place
        assert processes.wait(30)
    assert {f"{PARENT_VARIABLE}={os.getpid()}".encode(), b"OMP_NUM_THREADS=1"} <= set(environment.split(b"\0"))
    assert '"check": "python"' in started.log.read_text()
    assert processes.ended() == [started]


def test_leaving_stops_everybody_also_the_stubborn(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    meek, stubborn = child(tmp_path, "import time; time.sleep(60)"), child(tmp_path, STUBBORN, "b")
    processes.children += [meek, stubborn]
    while "up" not in stubborn.log.read_text():
        time.sleep(0.01)
    processes.stop(first=meek, grace_s=0.3)
    assert (meek.process.returncode, stubborn.process.returncode) == (-signal.SIGTERM, -signal.SIGKILL)


def test_waiting_is_bounded(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    processes.children.append(child(tmp_path, "import time; time.sleep(60)"))
    assert not processes.wait(0.2)
    processes.stop(grace_s=5)
    assert processes.wait(0.2)

"""Output that cannot be written ends no process that others depend on, and is one line elsewhere."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from fedcore.cli.console.steady_output import keep_going_without_output
keep_going_without_output()
keep_going_without_output()
for number in range(3):
    print("lost", flush=True)
sys.stdout.write("lost, too")
print("done", file=sys.stderr)
"""


def told(command: list[str], out: str) -> subprocess.CompletedProcess[str]:
    with Path(out).open("w") as sink:
        return subprocess.run(
            [sys.executable, *command], stdout=sink, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_not_the_end() -> None:
    ended = told(["-c", SCRIPT], "/dev/full")
    assert (ended.returncode, ended.stderr) == (0, "done\n")


def test_a_reader_that_is_gone_is_not_the_end() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(0.5)\n" + SCRIPT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.wait(60) == 0 and process.stderr.read() == "done\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_command_whose_output_is_lost_fails_in_a_line() -> None:
    ended = told(["-m", "fedcore.cli.main", "fetch"], "/dev/full")
    assert ended.returncode == 1 and ended.stderr.startswith("error: the output cannot be written")
    assert "Traceback" not in ended.stderr

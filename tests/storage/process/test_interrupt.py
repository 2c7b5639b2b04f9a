import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from fedcore.core.errors import RunError
from fedcore.storage.process.interrupt import Interrupted, run_to_end
from fedcore.storage.process.orphan import PARENT_VARIABLE


def test_work_that_ends_gives_its_result() -> None:
    async def work() -> int:
        return 7

    assert run_to_end(work()) == 7


def test_what_work_raises_comes_through() -> None:
    async def work() -> None:
        raise RunError("no")

    with pytest.raises(RunError, match="no"):
        run_to_end(work())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_work_cleanly(number: signal.Signals) -> None:
    cleaned = False

    async def work() -> None:
        nonlocal cleaned
        try:
            await asyncio.sleep(60)
        finally:
            cleaned = True

    threading.Timer(0.1, os.kill, (os.getpid(), number)).start()
    with pytest.raises(Interrupted, match="stopped on request; start it again to come back to the run"):
        run_to_end(work())
    assert cleaned


def test_a_vanished_parent_stops_work() -> None:
    code = "import asyncio; from fedcore.storage.process.interrupt import run_to_end; run_to_end(asyncio.sleep(60))"
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {PARENT_VARIABLE: "1"},  # not this process: the one it was started by is gone
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1 and "stopped on request" in done.stderr
    assert time.monotonic() - begun < 20

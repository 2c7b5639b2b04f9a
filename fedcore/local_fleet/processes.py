"""The processes of a local fleet: started together, watched, and never left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedcore.storage.process.orphan import PARENT_VARIABLE

POLL_S = 0.1
ERROR = "error: "  # how the command line begins its errors


@dataclass(slots=True)
class Child:
    """One process, its name, and where its output goes."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def failed(self) -> bool:
        """Whether it has ended, and not as it should."""
        return bool(self.process.poll())

    def last_words(self) -> str:
        """Why it ended: the signal that killed it, else the last error it wrote, else its last line."""
        code = self.process.poll()
        if code is not None and code < 0:
            return f"killed by {signal.Signals(-code).name}"
        lines = self.log.read_text(errors="replace").strip().splitlines() or ["no output"]
        errors = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
        return errors[-1] if errors else lines[-1]


@dataclass(slots=True)
class Processes:
    """All processes of one fleet. Use as a context manager: leaving it stops every one of them."""

    logs: Path
    children: list[Child] = field(default_factory=list)

    def start(self, name: str, arguments: Sequence[str]) -> Child:
        """Start `fedcore ARGUMENTS` in its own session, one torch thread, output to a log file."""
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{name}.log"
        # One thread per process: several processes share the cores, and oversubscription costs two to five times.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", PARENT_VARIABLE: str(os.getpid())}
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "fedcore.cli.main", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches the fleet alone, which stops the others in order
            )
        child = Child(name, process, log)
        self.children.append(child)
        return child

    def ended(self) -> list[Child]:
        """Children that have exited."""
        return [child for child in self.children if child.process.poll() is not None]

    def wait(self, seconds: float, children: Sequence[Child] | None = None) -> bool:
        """Wait for `children` (all) to exit; False where some still run after `seconds`."""
        deadline = time.monotonic() + seconds
        watched = self.children if children is None else children
        while any(child.process.poll() is None for child in watched):
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    def stop(self, *, first: Child | None = None, grace_s: float = 10.0) -> None:
        """Ask `first` to end, then the rest; whoever has not after `grace_s` is killed."""
        if first is not None and first.process.poll() is None:
            first.process.send_signal(signal.SIGTERM)
            self.wait(grace_s, [first])
        for child in self.children:
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGTERM)
        if not self.wait(grace_s):
            for child in self.children:
                if child.process.poll() is None:
                    child.process.kill()
            self.wait(grace_s)

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

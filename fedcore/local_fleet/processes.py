"""The processes of a local fleet: start them, wait for them, and leave none running."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedcore.local_fleet.complaints import ERROR
from fedcore.storage.process.environment import module_command
from fedcore.storage.process.orphan import PARENT_VARIABLE

POLL_S = 0.1
KILLED = "killed by "  # how the last words of a process begin that a signal ended
OUTPUT_BYTES = 1 << 18
LOGGED = {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8:backslashreplace"}  # a log is UTF-8 in every locale


@dataclass(slots=True)
class Child:
    """One process, its name, and the log file of its output."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path
    begin: int = 0  # bytes of its log that an earlier process of the name wrote

    @property
    def failed(self) -> bool:
        """Whether the process has ended with an error."""
        return bool(self.process.poll())

    def last_words(self) -> str:
        """Return why the process ended: the signal that killed it, else the last error, or line, in its log."""
        code = self.process.poll()
        if code is not None and code < 0:
            return f"{KILLED}{signal.Signals(-code).name}"
        lines = self.output().strip().splitlines() or ["no output"]
        errors = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
        return errors[-1] if errors else lines[-1]

    def output(self) -> str:
        """What it has written so far, the last OUTPUT_BYTES of it."""
        with self.log.open("rb") as file:
            file.seek(max(self.begin, self.log.stat().st_size - OUTPUT_BYTES))
            return file.read().decode(errors="replace")


@dataclass(slots=True)
class Processes:
    """All processes of one fleet. Use as a context manager, which stops all of them on exit."""

    logs: Path
    children: list[Child] = field(default_factory=list)

    def start(self, name: str, arguments: Sequence[str]) -> Child:
        """Start `fedcore ARGUMENTS` in its own session, with one torch thread and its output in a log file."""
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{name}.log"
        # One thread per process: several processes share the cores, and oversubscription costs two to five times.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", PARENT_VARIABLE: str(os.getpid()), **LOGGED}
        environment.pop("PYTHONINSPECT", None)  # a prompt at the end of a process would be its end's success
        with log.open("ab") as output:
            begin = output.tell()
            process = subprocess.Popen(
                [*module_command("fedcore.cli.main"), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches only the parent, which stops the children in order
            )
        child = Child(name, process, log, begin)
        self.children.append(child)
        return child

    def ended(self) -> list[Child]:
        """Return the children that have exited."""
        return [child for child in self.children if child.process.poll() is not None]

    def wait(self, seconds: float, children: Sequence[Child] | None = None) -> bool:
        """Wait for `children` (None: all) to exit; return False where one still runs after `seconds`."""
        deadline = time.monotonic() + seconds
        awaited = self.children if children is None else children
        while any(child.process.poll() is None for child in awaited):
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    def stop(self, *, first: Child | None = None, grace_s: float = 10.0) -> None:
        """Terminate `first`, then the other children; kill a child that still runs after `grace_s`."""
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

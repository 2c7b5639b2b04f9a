"""Processes of one measurement: started in sessions of their own, watched for memory, ended whatever happens."""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np

MARK = "FEDCORE_MEASUREMENT"  # in the environment of every process of a measurement, also of those they start
SAMPLE_S = 0.1
POLL_S = 0.05
KILL_S = 30.0


class MeasurementFailed(Exception):
    """A case gave no figure; the message says which process failed and how its output ended."""


@dataclass(slots=True)
class Crew:
    """The processes of one measurement. Use as a context manager: leaving it kills all of them and their children."""

    logs: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    members: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    peaks: dict[int, dict[str, float]] = field(default_factory=dict)  # pid -> key of status -> largest MB seen
    _mark: str = field(default_factory=lambda: secrets.token_hex(8))
    _over: threading.Event = field(default_factory=threading.Event)
    _watched: set[int] = field(default_factory=set)
    _watcher: threading.Thread | None = None
    _cpu: dict[int, float] = field(default_factory=dict)  # pid -> seconds of processor time last seen
    _cpu_samples: list[tuple[float, float]] = field(default_factory=list)  # (monotonic time, seconds of all members)
    _lines: dict[int, str] = field(default_factory=dict)  # pid -> command line

    def start(self, name: str, command: Sequence[str], *, watch: bool = False) -> "subprocess.Popen[bytes]":
        """Start a process; its output goes to `logs`/NAME.log. `watch` samples its memory until it ends."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **self.environment}
        environment[MARK] = self._mark
        with (self.logs / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        self.members[name] = process
        if watch:
            self._watched.add(process.pid)
        return process

    def python(self, name: str, module: str, *arguments: str, watch: bool = False) -> "subprocess.Popen[bytes]":
        """Start `python -m MODULE ARGUMENTS`."""
        return self.start(name, [sys.executable, "-m", module, *arguments], watch=watch)

    def peak_mb(self, name: str, key: str = "VmHWM") -> float:
        """Largest value of a `/proc/PID/status` figure of a watched member, in MB (10**6 bytes); 0 if never seen."""
        return self.peaks.get(self.members[name].pid, {}).get(key, 0.0)

    def peak_of(self, word: str, key: str = "VmHWM") -> float:
        """As `peak_mb`, over every watched process whose command line holds `word`; the largest one's, not a sum."""
        return max((self.peaks[pid].get(key, 0.0) for pid, line in self._lines.items() if word in line), default=0.0)

    def cpu_between(self, begin: float, end: float) -> float:
        """Seconds of processor time that all members used between two times of the monotonic clock, interpolated."""
        times, used = zip(*self._cpu_samples, strict=True)
        return float(np.interp(end, times, used) - np.interp(begin, times, used))

    def wait_for(self, done: Callable[[], bool], limit_s: float, what: str, *, every_s: float = POLL_S) -> None:
        """Wait until `done()`; raises MeasurementFailed past `limit_s` or where a member ends with an error first."""
        deadline = time.monotonic() + limit_s
        while not done():
            self.check()
            if time.monotonic() > deadline:
                raise MeasurementFailed(f"{what}: not within {limit_s:g} s\n{self.tails()}")
            time.sleep(every_s)

    def wait_all(self, names: Sequence[str], limit_s: float, what: str) -> None:
        """Wait until the named members have ended well."""
        self.wait_for(lambda: all(self.members[name].poll() is not None for name in names), limit_s, what)
        self.check()

    def check(self) -> None:
        """Raise MeasurementFailed where a member has ended with an error."""
        for name, process in self.members.items():
            if process.poll() not in (None, 0):
                raise MeasurementFailed(f"{name} ended with status {process.returncode}\n{self.tails((name,))}")

    def tails(self, names: Sequence[str] = (), lines: int = 12) -> str:
        """The last words of the named members, or of all."""
        texts = []
        for name in names or self.members:
            with contextlib.suppress(OSError):
                text = (self.logs / f"{name}.log").read_text(errors="replace", encoding="utf-8").splitlines()[-lines:]
                texts.append(f"--- {name}: " + "\n".join(text))
        return "\n".join(texts[:6])

    def pids(self) -> list[int]:
        """Every live process of this measurement, children of members included."""
        return list(_marked(self._mark))

    def __enter__(self) -> "Crew":
        self.logs.mkdir(parents=True, exist_ok=True)
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._watcher is not None:
            self._watcher.join()
        deadline = time.monotonic() + KILL_S
        while (left := self.pids()) and time.monotonic() < deadline:  # one may start another while it is being killed
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for process in self.members.values():
                process.poll()
            time.sleep(POLL_S)
        for process in self.members.values():
            process.wait(KILL_S)

    def watch_everything(self) -> None:
        """Sample the memory of every process of this measurement, children of members included."""
        self._watched |= set(self.pids())

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_S):
            for process in list(self.members.values()):
                self._cpu[process.pid] = max(cpu_s(process.pid), self._cpu.get(process.pid, 0.0))
            self._cpu_samples.append((time.monotonic(), sum(self._cpu.values())))
            for pid in list(self._watched):
                figures = memory_mb(pid)
                peaks = self.peaks.setdefault(pid, {})
                if figures:
                    self._lines[pid] = _command_line(pid) or self._lines.get(pid, "")
                for key, value in figures.items():
                    peaks[key] = max(value, peaks.get(key, 0.0))


def memory_mb(pid: int) -> dict[str, float]:
    """VmHWM, RssAnon and RssFile of a process in MB (10**6 bytes); empty where it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return {}
    fields = (line.split() for line in text.splitlines() if line.startswith(("VmHWM", "RssAnon", "RssFile")))
    return {words[0].rstrip(":"): int(words[1]) * 1024 / 1e6 for words in fields}


def cpu_s(pid: int) -> float:
    """Seconds of processor time a process has used; 0 where it has ended."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _marked(mark: str) -> Iterator[int]:
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    yield int(entry.name)

"""A place where real processes of the product run: a home that is not ours, a model, data, and nothing left behind."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedcore.core.contract.protocols import Json
from fedcore.server.run.journal import read_events
from fedcore.storage.process.orphan import PARENT_VARIABLE

PATIENCE_S = 90.0  # no test waits longer for anything; a busy machine imports torch slowly
PROGRAM = ("-m", "fedcore.cli.main")
NEUTRAL = ("film", "plot", "actor", "the", "a", "was", "and", "story")
TELLING = {"neg": ("bad", "dull", "not"), "pos": ("good", "great", "very"), "so": ("very", "not", "story")}


@dataclass
class Started:
    """A process of the product and what it wrote."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def output(self) -> str:
        """Everything it wrote so far, both streams."""
        return self.log.read_text(errors="replace")

    def ends(self, seconds: float = PATIENCE_S) -> int:
        """Wait for its end and return its exit code."""
        return self.process.wait(seconds)


@dataclass
class Stage:
    """One folder to work in. Every process started here is gone when the stage is."""

    root: Path
    started: list[Started] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)

    @property
    def home(self) -> Path:
        """HOME of every process."""
        return self.root / "home"

    @property
    def environment(self) -> dict[str, str]:
        """A clean environment: one thread, no network, a home of its own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FEDCORE_", "HF_", "XDG_"))}
        changes = {"HOME": str(self.home), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "80"}
        return kept | changes | {"FEDCORE_CACHE": str(self.root / "cache")}

    def run(self, *words: object, timeout: float = PATIENCE_S) -> "subprocess.CompletedProcess[str]":
        """Run `fedcore WORDS` to its end."""
        return subprocess.run(
            command(words), cwd=self.root, env=self.environment, capture_output=True, text=True, timeout=timeout
        )

    def start(
        self, name: str, *words: object, program: Sequence[str] = PROGRAM, python: str = sys.executable
    ) -> Started:
        """Start `fedcore WORDS`, or another program with these words; its output goes to NAME.out."""
        log = self.root / f"{name}.out"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [python, *command(words, program)[1:]],
                cwd=self.root,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(Started(process, log))
        return self.started[-1]

    def close(self) -> None:
        """Kill whatever is left, children of ours included."""
        for each in self.started:
            left = children(each.process.pid)
            if each.process.poll() is None:
                each.process.kill()
                each.process.wait()
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def command(words: Sequence[object], program: Sequence[str] = PROGRAM) -> list[str]:
    """The command line of `fedcore WORDS`."""
    return [sys.executable, *program, *map(str, words)]


def children(parent: int) -> list[int]:
    """Living processes that a fleet of process id `parent` started."""
    wanted = f"{PARENT_VARIABLE}={parent}".encode()
    return [int(place.name) for place in Path("/proc").glob("[0-9]*") if wanted in _environment(place)]


def _environment(place: Path) -> list[bytes]:
    try:
        if "\nState:\tZ" in (place / "status").read_text():  # dead, its parent has yet to look
            return []
        return (place / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def eventually(what: str, condition: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


def events(run: Path, kind: str = "") -> list[Json]:
    """Events of a run folder so far, of one kind or all."""
    path = run / "events.jsonl"
    return [each for each in read_events(path) if kind in ("", each["event"])] if path.is_file() else []


def summary_of(run: Path) -> Json:
    """The summary of a finished run."""
    summary: Json = json.loads((run / "summary.json").read_text())
    return summary


def texts(labels: Sequence[str], rows: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """Yield (text, label): neutral words, then some that tell the label; all different."""
    drawn = random.Random(seed)
    seen: set[str] = set()
    while len(seen) < rows:
        label = labels[len(seen) % len(labels)]
        text = " ".join((*drawn.choices(NEUTRAL, k=6), *drawn.choices(TELLING[label], k=3)))
        if text not in seen:
            seen.add(text)
            yield text, label


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

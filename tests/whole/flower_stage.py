"""Flower's own programs around the example app, with a home, a port and an end of their own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "examples" / "flower_app"
PATIENCE_S = 280.0  # Flower polls every 3 s and starts a process for every message


@dataclass
class FlowerStage:
    """One folder; every process that was started with it as Flower's home is gone when it is closed."""

    root: Path
    port: int = field(default_factory=lambda: free_port())

    @property
    def environment(self) -> dict[str, str]:
        """No word home, no update, no download; a local SuperLink of our own."""
        return {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "FLWR_HOME": str(self.root / "flwr"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(self.port),
            "FLWR_LOCAL_CONTROL_API_PORT": str(free_port()),
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def start(self, *words: object) -> "subprocess.Popen[bytes]":
        """Start a program of Flower's; its output goes to its name and .out."""
        with (self.root / f"{words[0]}-{time.monotonic_ns()}.out").open("wb") as output:
            return subprocess.Popen(
                [str(word) for word in words],
                cwd=self.root,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, *words: object) -> str:
        """Run a program of Flower's to its end and return what it said."""
        done = subprocess.run(
            [str(word) for word in words],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def write_connection(self) -> None:
        """Tell `flwr` of the SuperLink on our port, as "deployment"."""
        home = self.root / "flwr"
        home.mkdir(exist_ok=True)
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "deployment"\n[superlink.deployment]\naddress = "127.0.0.1:{self.port}"\n'
            "insecure = true\n"
        )

    def close(self) -> None:
        """End every process whose Flower home is ours, Ray's included."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            end_s = time.monotonic() + 10.0
            while (left := self.left()) and time.monotonic() < end_s:
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, number)
                time.sleep(0.2)
        assert not self.left()

    def left(self) -> list[int]:
        """Living processes of this stage."""
        wanted = f"FLWR_HOME={self.root / 'flwr'}".encode()
        numbers = [int(place.name) for place in Path("/proc").iterdir() if place.name.isdigit()]
        return [pid for pid in numbers if wanted in _environment(pid)]


@contextlib.contextmanager
def staged(root: Path) -> Iterator[FlowerStage]:
    """Give a stage and close it."""
    stage = FlowerStage(root)
    try:
        yield stage
    finally:
        stage.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _environment(pid: int) -> list[bytes]:
    if pid == os.getpid():
        return []
    try:
        if b"\nState:\tZ" in Path(f"/proc/{pid}/status").read_bytes():  # dead, its parent has yet to look
            return []
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []

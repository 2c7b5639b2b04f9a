"""docker-compose.yml under a project name of its own: up, looked into, and gone without a trace."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fedcore.core.contract.protocols import Json

ROOT = Path(__file__).parents[2]
STEP_S = 400.0  # no single thing that the fleet is waited for takes longer
BUILD_S = 1500.0


def compose_command() -> list[str]:
    """Compose v2 where there is one, else docker-compose v1.29."""
    if _works("docker", "compose", "version"):
        return ["docker", "compose"]
    assert shutil.which("docker-compose"), "neither docker compose nor docker-compose is installed"
    return ["docker-compose"]


def builder() -> dict[str, str]:
    """Environment for a build: BuildKit where it is to be had, for the classic builder makes unneeded stages too."""
    if "DOCKER_BUILDKIT" in os.environ:
        return {"COMPOSE_DOCKER_CLI_BUILD": "1"}
    kit = "1" if _works("docker", "buildx", "version") else "0"
    return {"COMPOSE_DOCKER_CLI_BUILD": "1", "DOCKER_BUILDKIT": kit}


def _works(*words: str) -> bool:
    return subprocess.run(words, capture_output=True).returncode == 0


@dataclass(frozen=True, kw_only=True)
class Composed:
    """One project: `variables` are those of docker-compose.yml, `run` the name of its first run."""

    project: str
    variables: Mapping[str, str]
    run: str

    def compose(self, *words: str, seconds: float = STEP_S) -> str:
        """Run compose and return what it printed; fails, with all of it, where it fails."""
        command = [*compose_command(), "-f", str(ROOT / "docker-compose.yml"), "-p", self.project, *words]
        environment = {**os.environ, **builder(), **self.variables}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def docker(self, *words: str, seconds: float = STEP_S) -> str:
        """Run docker and return what it printed."""
        done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=seconds)
        assert done.returncode == 0, f"docker {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def containers(self, service: str) -> list[str]:
        """Ids of a service's containers, running or not."""
        filters = (f"label=com.docker.compose.project={self.project}", f"label=com.docker.compose.service={service}")
        listed = self.docker("ps", "--all", "--quiet", "--no-trunc", *(f"--filter={each}" for each in filters))
        return listed.split()

    def state(self, container: str) -> Json:
        """The engine's word on a container."""
        described: list[Json] = json.loads(self.docker("inspect", container))
        return described[0]

    def exit_code(self, container: str) -> int | None:
        """The exit code of a container; None while it runs or is to be started again."""
        state = self.state(container)["State"]
        return int(state["ExitCode"]) if state["Status"] == "exited" else None

    def events(self, kind: str = "") -> list[Json]:
        """Events of the first run so far."""
        return [each for each in self._lines(f"/runs/{self.run}/events.jsonl") if kind in ("", each["event"])]

    def _lines(self, path: str) -> list[Json]:
        coordinator = self.containers("coordinator")[0]
        read = subprocess.run(["docker", "exec", coordinator, "cat", path], capture_output=True, text=True)
        if read.returncode:  # it is being started again, or nothing is there yet
            return []
        return [json.loads(line) for line in read.stdout.splitlines() if line.endswith("}")]

    def logs(self) -> str:
        """The end of everybody's output, for messages."""
        return self.compose("logs", "--no-color", "--tail=15")

    def eventually(self, what: str, condition: Callable[[], object], seconds: float = STEP_S) -> None:
        """Wait until `condition` holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}\n{self.logs()}"
            time.sleep(1.0)

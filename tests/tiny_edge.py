"""Edges in this event loop."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fedcore.server.edge.options import EdgeOptions
from fedcore.server.edge.process import ENDPOINT, serve_edge
from fedcore.storage.pki.certificates import TlsMaterial
from tests.tiny_run import PATIENCE_S, timeout


@dataclass
class Edged:
    """An edge being served; `task` ends with the parting words it heard, or its error."""

    name: str
    task: "asyncio.Task[str]"
    address: str = ""
    said: list[str] = field(default_factory=list)

    async def kill(self) -> None:
        """End it without a word to anybody."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@asynccontextmanager
async def edging(
    place: Path,
    name: str,
    upstream: Sequence[str],
    *,
    advertise: str | None = "",
    reconnect_s: float = 5.0,
    tls: TlsMaterial | None = None,
) -> AsyncIterator[Edged]:
    """Serve an edge below `upstream` until the block ends."""
    said: list[str] = []
    options = EdgeOptions(
        name=name,
        upstream=tuple(upstream),
        listen="127.0.0.1:0",
        advertise=advertise,
        tls=tls,
        state=place / name,
        reconnect_s=reconnect_s,
        metrics="",
        say=said.append,
    )
    edge = Edged(name=name, task=asyncio.create_task(serve_edge(options)), said=said)
    endpoint = place / name / ENDPOINT
    try:
        async with timeout(PATIENCE_S):
            while not endpoint.is_file():
                if edge.task.done():
                    edge.task.result()
                await asyncio.sleep(0.01)
        edge.address = json.loads(endpoint.read_text())["address"]
        yield edge
    finally:
        await edge.kill()

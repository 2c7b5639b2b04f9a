"""A Flower app served by our coordinator, and devices of ours that run its ClientApp, all in one event loop."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from fedcore.client.flower.join import AppDeviceOptions, join_app
from fedcore.server.flower.serve import AppOptions, serve_app
from fedcore.server.run.journal import read_events
from tests.tiny_run import PATIENCE_S, timeout


@dataclass
class ServedApp:
    """An app being served; `task` ends with its context or its error."""

    root: Path
    task: "asyncio.Task[Context]"
    address: str = ""
    devices: "dict[str, asyncio.Task[str]]" = field(default_factory=dict)

    def join(self, name: str, app: ClientApp, **options: Any) -> "asyncio.Task[str]":
        """Have a device join."""
        self.devices[name] = asyncio.ensure_future(join_app(app, self.options(name, **options)))
        return self.devices[name]

    def options(self, name: str, **changes: Any) -> AppDeviceOptions:
        """What a device is started with."""
        number = len(self.devices)
        values: dict[str, Any] = {"node_config": {"partition-id": number}, "reconnect_s": 5.0, "tls": None}
        said = (self.root / f"{name}.said").open("a", buffering=1)
        return AppDeviceOptions(
            **{
                "targets": (self.address,),
                "name": name,
                "state": self.root / "devices" / name,
                "say": lambda text: print(text, file=said),
                **values,
                **changes,
            }
        )

    def events(self, kind: str) -> list[Mapping[str, Any]]:
        """Events of one kind so far."""
        return [each for each in read_events(self.root / "run" / "events.jsonl") if each["event"] == kind]

    async def until(self, kind: str, count: int = 1) -> list[Mapping[str, Any]]:
        """Wait for `count` events of a kind."""
        async with timeout(PATIENCE_S):
            while len(found := self.events(kind)) < count:
                assert not self.task.done(), self.task.exception()
                await asyncio.sleep(0.01)
        return found

    async def end(self) -> Context:
        """Wait for the app's end."""
        return await asyncio.wait_for(asyncio.shield(self.task), PATIENCE_S)


@asynccontextmanager
async def serving_app(app: ServerApp, root: Path, **options: Any) -> AsyncIterator[ServedApp]:
    """Serve an app until the block ends."""
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def say(text: str) -> None:
        if not listening.done():
            listening.set_result(text.split()[2])

    values: dict[str, Any] = {"run_config": {"local-steps": 2}, "tls": None, **options}
    task = asyncio.ensure_future(serve_app(app, AppOptions(folder=root / "run", say=say, **values)))
    served = ServedApp(root, task)
    try:
        await asyncio.wait([task, listening], timeout=PATIENCE_S, return_when="FIRST_COMPLETED")
        served.address = listening.result()
        yield served
    finally:
        for each in (task, *served.devices.values()):
            each.cancel()
        await asyncio.wait([task, *served.devices.values()], timeout=PATIENCE_S)

"""Where Flower keeps what it keeps, and a Grid that calls a ClientApp directly, to compare with."""

import gc
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run

os.environ.setdefault("FLWR_HOME", tempfile.mkdtemp(prefix="flwr-home-"))


@pytest.fixture(autouse=True)
def frozen() -> Iterator[None]:
    """Flower collects garbage after every array it reads: what is there already need not be looked at each time."""
    gc.freeze()
    yield
    gc.unfreeze()


class DirectGrid(Grid):
    """Nodes 1, 2, ... in this thread; no wire, nothing lost."""

    def __init__(self, app: ClientApp, nodes: int, run_config: dict[str, int]) -> None:
        self.app = app
        self.contexts = {
            node: Context(
                run_id=1,
                node_id=node,
                node_config={"partition-id": node - 1},
                state=RecordDict(),
                run_config=run_config,
            )
            for node in range(1, nodes + 1)
        }
        self.replies: dict[str, Message] = {}

    def set_run(self, run: Run) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Run:
        return Run.create_empty(run_id=1)

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        return [self._push(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        return [self.replies.pop(each) for each in list(message_ids) if each in self.replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        return self.pull_messages(self.push_messages(messages))

    def _push(self, message: Message) -> str:
        number = uuid.uuid4().hex
        message.metadata.__dict__["_message_id"] = number
        self.replies[number] = self.app(message, self.contexts[message.metadata.dst_node_id])
        return number

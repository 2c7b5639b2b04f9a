"""Messages and Contexts of a Flower app, made without Flower's processes."""

from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.app.message import make_message
from flwr.app.metadata import Metadata
from flwr.supercore.task_identity import TaskIdentity

RUN_ID = 7
NODE = 11


def message_of(kind: str, content: RecordDict) -> Message:
    """Return a message of the ServerApp to the node."""
    metadata = Metadata(
        run_id=RUN_ID,
        message_id="m1",
        src_node_id=1,
        dst_node_id=NODE,
        reply_to_message_id="",
        group_id="3",
        created_at=0.0,
        ttl=60.0,
        message_type=kind,
    )
    return make_message(metadata=metadata, content=content)


def context_of(node: dict[str, Any] | None = None, shared: dict[str, Any] | None = None) -> Context:
    """Return a node's Context with its own configuration and the app's."""
    return Context(run_id=RUN_ID, node_id=NODE, node_config=node or {}, state=RecordDict(), run_config=shared or {})


@pytest.fixture(autouse=True)
def task_identity() -> None:
    """Give this process the identity that a SuperNode gives its own."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, RUN_ID, NODE

"""Messages of an app without a wire: metadata, instructions and replies as a queue and a host take them."""

from flwr.app.metadata import Metadata

from fedcore.protos.values import AppReply, BlobRef
from fedcore.server.flower.app_queue import Instruction
from tests.tiny_tier import small


def metadata(message_id: str, node: int = 1) -> Metadata:
    """Return the metadata of a message to a node."""
    return Metadata(
        run_id=1,
        message_id=message_id,
        src_node_id=9,
        dst_node_id=node,
        reply_to_message_id="",
        group_id="",
        created_at=1.0,
        ttl=60.0,
        message_type="query",
    )


def instruction(
    message_id: str, device: str = "ada", *, content: BlobRef | None = None, deadline_s: float = 10.0
) -> Instruction:
    """Return a message for a device; its content is inside unless given."""
    return Instruction(
        metadata=metadata(message_id),
        device=device,
        head=b"head",
        content=small(b"content") if content is None else content,
        deadline_s=deadline_s,
    )


def reply(number: int, content: BlobRef | None = None) -> AppReply:
    """Return a device's reply to a task."""
    return AppReply(number=number, head=b"reply", content=content)

"""Tasks of a foreign app and their replies."""

from fedcore.protos.convert.blob import ref_from_pb, ref_to_pb
from fedcore.protos.v1 import app_pb2 as pb
from fedcore.protos.values import AppReply, AppTask


def task_to_pb(value: AppTask) -> pb.AppTask:
    """AppTask value -> message."""
    return pb.AppTask(
        number=value.number,
        head=value.head,
        content=ref_to_pb(value.content),
        deadline_s=value.deadline_s,
        max_reply_bytes=value.max_reply_bytes,
        run_config=value.run_config,
    )


def task_from_pb(message: pb.AppTask) -> AppTask:
    """AppTask message -> value."""
    return AppTask(
        number=message.number,
        head=message.head,
        content=ref_from_pb(message.content),
        deadline_s=message.deadline_s,
        max_reply_bytes=message.max_reply_bytes,
        run_config=message.run_config,
    )


def reply_to_pb(value: AppReply) -> pb.AppReply:
    """AppReply value -> message."""
    content = None if value.content is None else ref_to_pb(value.content)
    return pb.AppReply(number=value.number, head=value.head, content=content)


def reply_from_pb(message: pb.AppReply) -> AppReply:
    """AppReply message -> value."""
    content = ref_from_pb(message.content) if message.HasField("content") else None
    return AppReply(number=message.number, head=message.head, content=content)

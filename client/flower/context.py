"""A node's Context on disk: what a ClientApp keeps between messages, also over a restart of its device."""

from pathlib import Path

from flwr.app import Context
from flwr.common.serde import context_from_proto, context_to_proto
from flwr.proto.message_pb2 import Context as ProtoContext
from google.protobuf.message import DecodeError

from fedcore.storage.atomic import write_atomic

_NAME = "context.pb"


def save_context(root: Path, context: Context) -> None:
    """Write the Context atomically; one of an earlier run is replaced."""
    write_atomic(root / _NAME, context_to_proto(context).SerializeToString(), mode=0o600)


def load_context(root: Path, run_id: int) -> Context | None:
    """Return the Context of a run, None where there is none yet or it is damaged: an app then begins afresh."""
    try:
        context = context_from_proto(ProtoContext.FromString((root / _NAME).read_bytes()))
    except (FileNotFoundError, DecodeError, ValueError):
        return None
    return context if context.run_id == run_id else None

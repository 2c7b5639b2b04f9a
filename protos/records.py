"""What our own stream messages are called inside another carrier's records. Nothing of that carrier is known here.

Down go the run's description, a welcome and an assignment, up a join, an update or a failure: the bytes of the very
messages a stream of ours carries (`fedcore.protos.convert.stream`). Blobs lie beside them by name, none inside a
message.
"""

from collections.abc import Mapping

RECORD = "fedcore"  # the record of messages; also a node's own state between two of them
BLOBS = "blobs"  # the record of payloads, by blob id
RUN = "run"  # key of the description
MESSAGES = "messages"  # key of the list of messages
JOIN = "query.join"  # message type that asks a node to join
CONTAINER = "fedcore.identity"  # how a payload that no codec of a device made is serialised


def encoding(codec: str) -> str:
    """Return how an update is said to be serialised: "fedcore.bf16+zstd" for the codec "bf16+zstd"."""
    return f"fedcore.{codec}"


def overrides(shared: Mapping[str, bool | int | float | str]) -> list[str]:
    """Return an app's settings that are keys of our configuration, as `table.key=value`.

    Keys without a table are the adapters' own.
    """
    return [f"{key}={_text(value)}" for key, value in shared.items() if "." in key]


def _text(value: bool | int | float | str) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

"""Names under which another carrier's records carry our stream messages. This module knows nothing of that carrier.

The records carry the bytes of the same messages as our own stream (`fedcore.protos.convert.stream`): the run's
description, a welcome and an assignment to the device; a join, an update or a failure from it. Blobs travel beside the
messages by name, never inside them.
"""

from collections.abc import Mapping

RECORD = "fedcore"  # the record of messages; also the state that a node keeps between two messages
BLOBS = "blobs"  # the record of payloads, by blob id
RUN = "run"  # key of the description
MESSAGES = "messages"  # key of the list of messages
JOIN = "query.join"  # message type that asks a node to join
CONTAINER = "fedcore.identity"  # serialisation of a payload that no device codec has encoded


def encoding(codec: str) -> str:
    """Return the name of an update's serialisation: "fedcore.bf16+zstd" for the codec "bf16+zstd"."""
    return f"fedcore.{codec}"


def overrides(shared: Mapping[str, bool | int | float | str]) -> list[str]:
    """Return the settings of an app that are keys of our configuration, as `table.key=value`.

    Keys without a table belong to the adapters and are left out.
    """
    return [f"{key}={_text(value)}" for key, value in shared.items() if "." in key]


def _text(value: bool | int | float | str) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

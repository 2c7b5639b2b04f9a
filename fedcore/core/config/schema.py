"""The JSON Schema of a configuration file, for editors: `python -m fedcore.core.config.schema` prints it.

An editor with a TOML language server (Even Better TOML, taplo) completes keys, shows their meaning and marks mistakes
in a file whose first line is `#:schema PATH`. It allows whatever `parse_config` takes, and refuses wrong types, unknown
keys and what the rules can state; the rest is said when the file is read. Keywords are those of draft 7, which every
editor knows.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

from fedcore.core.config.keys import Key, keys_of
from fedcore.core.config.kinds import item_kind, options
from fedcore.core.config.tables import TABLES, ClassConfig

TYPES = {str: "string", bool: "boolean", int: "integer", float: "number"}


def config_schema() -> dict[str, Any]:
    """Return the schema of a whole file."""
    tables = {name: _table(table) for name, table in TABLES.items()}
    devices = {"type": "array", "description": _summary(ClassConfig), "items": _table(ClassConfig)}
    tables["fleet"]["properties"]["class"] = devices
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Configuration of a fedcore run",
        "type": "object",
        "additionalProperties": False,
        "properties": tables,
    }


def schema_text() -> str:
    """Return the schema as it is published: JSON of two spaces, ending in a newline."""
    return json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n"


def _table(table: type[Any]) -> dict[str, Any]:
    keys = keys_of(table).values()
    needed = [key.name for key in keys if key.needed]
    return {
        "type": "object",
        "description": _summary(table),
        "additionalProperties": False,
        **({"required": needed} if needed else {}),
        "properties": {key.name: _key(key) for key in keys},
    }


def _summary(table: type[Any]) -> str:
    """What a table's docstring says of it behind its name in brackets."""
    return str(table.__doc__).partition(": ")[2]


def _key(key: Key) -> dict[str, Any]:
    said: dict[str, Any] = {"description": f"{key.meaning}. Unit: {key.unit}" if key.unit else key.meaning}
    if not key.needed and key.default is not None:
        said["default"] = list(key.default) if isinstance(key.default, tuple) else key.default
    for demand in (_kind(key.kind), *(rule.schema for rule in key.rules)):
        said = _joined(said, demand)
    return said


def _kind(kind: Any) -> dict[str, Any]:
    kinds = options(kind)
    if len(kinds) > 1:
        return {"anyOf": [_kind(option) for option in kinds]}
    item = item_kind(kinds[0])
    return {"type": TYPES[kinds[0]]} if item is None else {"type": "array", "items": _kind(item)}


def _joined(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Both demands at once; they share no keyword but `items`."""
    both = {**one, **other}
    if "items" in one and "items" in other:
        both["items"] = _joined(one["items"], other["items"])
    return both


if __name__ == "__main__":
    sys.stdout.write(schema_text())

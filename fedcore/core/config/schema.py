"""The JSON Schema of a configuration file, for editors: `python -m fedcore.core.config.schema` prints it.

An editor with a TOML language server (Even Better TOML, taplo) completes keys, shows their meaning and marks mistakes
in a file whose first line is `#:schema PATH`. It allows all that `parse_config` accepts. It refuses wrong types,
unknown keys, and values against the rules that a schema can express; the reader of the file checks the rest. Keywords
are those of draft 7, which every editor supports.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

from fedcore.core.config.keys import Key, keys_of
from fedcore.core.config.kinds import AUTO, automatic, item_kind, options
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
    """Return the published schema: JSON indented by two spaces, with a newline at the end."""
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
    """Return the text of a table's docstring after its name in brackets."""
    return str(table.__doc__).partition(": ")[2]


def _key(key: Key) -> dict[str, Any]:
    schema: dict[str, Any] = {"description": f"{key.meaning}. Unit: {key.unit}" if key.unit else key.meaning}
    if not key.needed and key.default is not None:
        schema["default"] = list(key.default) if isinstance(key.default, tuple) else key.default
    for demand in (_kind(key.kind), *(rule.schema for rule in key.rules)):
        schema = _joined(schema, demand)
    if automatic(key.kind):  # rules of numbers and lists leave texts alone
        schema["default"] = AUTO
    return schema


def _kind(kind: Any) -> dict[str, Any]:
    kinds = options(kind)
    if automatic(kind):
        return {"anyOf": [*(_kind(option) for option in kinds), {"const": AUTO}]}
    if len(kinds) > 1:
        return {"anyOf": [_kind(option) for option in kinds]}
    item = item_kind(kinds[0])
    return {"type": TYPES[kinds[0]]} if item is None else {"type": "array", "items": _kind(item)}


def _joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return both demands together; they share no keyword except `items`."""
    together = {**first, **second}
    if "items" in first and "items" in second:
        together["items"] = _joined(first["items"], second["items"])
    return together


if __name__ == "__main__":
    sys.stdout.write(schema_text())

"""The schema of protos/v1 as plain JSON, and what may not change in it once it is published.

`python -m tests.protos.schema` writes published_v1.json anew; do so only to publish additions.
"""

import importlib
import json
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor

from fedcore.protos.generate import SOURCES

PUBLISHED = Path(__file__).with_name("published_v1.json")
_TYPES = {number: name[5:].lower() for name, number in vars(FieldDescriptor).items() if name.startswith("TYPE_")}

Json = dict[str, Any]


def current_schema() -> Json:
    """Return messages, enums and services of every file in protos/v1."""
    schema: Json = {"messages": {}, "enums": {}, "services": {}}
    for source in SOURCES:
        module = importlib.import_module(source.removesuffix(".proto").replace("/", ".") + "_pb2")
        _add_file(schema, module.DESCRIPTOR)
    return schema


def broken(published: Any, current: Any, path: str = "") -> list[str]:
    """Name everything in `published` that `current` lacks or holds otherwise; additions are not named."""
    if not isinstance(published, dict):
        return [] if published == current else [f"{path}: was {published!r}, is {current!r}"]
    found: list[str] = []
    for key, value in published.items():
        where = f"{path}/{key}"
        if not isinstance(current, dict) or key not in current:
            found.append(f"{where}: removed")
        else:
            found += broken(value, current[key], where)
    return found


def _add_file(schema: Json, file: FileDescriptor) -> None:
    for message in file.message_types_by_name.values():
        _add_message(schema, message)
    for enum in file.enum_types_by_name.values():
        schema["enums"][enum.full_name] = {value.name: value.number for value in enum.values}
    for service in file.services_by_name.values():
        schema["services"][service.full_name] = {
            method.name: {
                "request": method.input_type.full_name,
                "request_streams": method.client_streaming,
                "response": method.output_type.full_name,
                "response_streams": method.server_streaming,
            }
            for method in service.methods
        }


def _add_message(schema: Json, message: Descriptor) -> None:
    schema["messages"][message.full_name] = {field.name: _field(field) for field in message.fields}
    for nested in message.nested_types:
        if not nested.GetOptions().map_entry:
            _add_message(schema, nested)
    for enum in message.enum_types:
        schema["enums"][enum.full_name] = {value.name: value.number for value in enum.values}


def _field(field: FieldDescriptor) -> Json:
    oneof = field.containing_oneof
    described: Json = {
        "number": field.number,
        "type": _type(field),
        "label": _label(field),
    }
    # A field that is optional on its own stands in a oneof of the compiler's making.
    return described | ({"oneof": oneof.name} if oneof is not None and not oneof.name.startswith("_") else {})


def _type(field: FieldDescriptor) -> str:
    kind = field.message_type or field.enum_type
    if kind is None:
        return str(_TYPES[field.type])
    if field.message_type is not None and kind.GetOptions().map_entry:
        key, value = (_type(kind.fields_by_name[name]) for name in ("key", "value"))
        return f"map<{key}, {value}>"
    return str(kind.full_name)


def _label(field: FieldDescriptor) -> str:
    if field.is_repeated:
        return "repeated"
    own_oneof = field.containing_oneof is not None and field.containing_oneof.name.startswith("_")
    return "optional" if own_oneof else "single"


if __name__ == "__main__":
    PUBLISHED.write_text(json.dumps(current_schema(), indent=1, sort_keys=True) + "\n")

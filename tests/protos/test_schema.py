import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.protos.schema import PUBLISHED, broken, current_schema

Schema = dict[str, Any]


@pytest.fixture
def published() -> Schema:
    schema: Schema = json.loads(PUBLISHED.read_text())
    return schema


def test_nothing_published_has_changed(published: Schema) -> None:
    assert broken(published, current_schema()) == []


def test_what_was_added_is_published_too(published: Schema) -> None:
    assert broken(current_schema(), published) == [], "publish additions: python -m tests.protos.schema"


def test_the_schema_holds_numbers_types_and_streams(published: Schema) -> None:
    messages, services = published["messages"], published["services"]
    assert messages["fedcore.v1.Assignment"]["keep_set"] == {
        "number": 4,
        "type": "fedcore.v1.BlobRef",
        "label": "single",
    }
    assert messages["fedcore.v1.Metrics"]["auc"] == {"number": 2, "type": "double", "label": "optional"}
    assert messages["fedcore.v1.JoinResponse"]["labels"] == {"number": 2, "type": "string", "label": "repeated"}
    assert messages["fedcore.v1.ConnectRequest"]["join"]["oneof"] == "kind"
    assert services["fedcore.v1.Fleet"]["Connect"] == {
        "request": "fedcore.v1.ConnectRequest",
        "request_streams": True,
        "response": "fedcore.v1.ConnectResponse",
        "response_streams": True,
    }


def test_an_addition_breaks_nothing(published: Schema) -> None:
    later = copy.deepcopy(published)
    later["messages"]["fedcore.v1.Progress"]["loss"] = {"number": 4, "type": "double", "label": "single"}
    later["messages"]["fedcore.v1.Later"] = {}
    later["enums"]["fedcore.v1.Role"]["ROLE_EDGE"] = 3
    later["services"]["fedcore.v1.Fleet"]["Later"] = {}
    assert broken(published, later) == []


BREAKS: list[tuple[Callable[[Schema], object], str]] = [
    (lambda s: s["messages"]["fedcore.v1.Progress"].pop("step"), "/messages/fedcore.v1.Progress/step: removed"),
    (
        lambda s: s["messages"]["fedcore.v1.Progress"]["step"].update(number=7),
        "/messages/fedcore.v1.Progress/step/number: was 2, is 7",
    ),
    (
        lambda s: s["messages"]["fedcore.v1.Progress"]["step"].update(type="int32"),
        "/messages/fedcore.v1.Progress/step/type: was 'uint32', is 'int32'",
    ),
    (
        lambda s: s["messages"]["fedcore.v1.Progress"]["step"].update(label="repeated"),
        "/messages/fedcore.v1.Progress/step/label: was 'single', is 'repeated'",
    ),
    (lambda s: s["messages"].pop("fedcore.v1.Progress"), "/messages/fedcore.v1.Progress: removed"),
    (lambda s: s["enums"]["fedcore.v1.Role"].pop("ROLE_DEVICE"), "/enums/fedcore.v1.Role/ROLE_DEVICE: removed"),
    (
        lambda s: s["enums"]["fedcore.v1.Role"].update(ROLE_DEVICE=5),
        "/enums/fedcore.v1.Role/ROLE_DEVICE: was 1, is 5",
    ),
    (lambda s: s["services"]["fedcore.v1.Fleet"].pop("GetBlob"), "/services/fedcore.v1.Fleet/GetBlob: removed"),
    (
        lambda s: s["services"]["fedcore.v1.Fleet"]["GetBlob"].update(response_streams=False),
        "/services/fedcore.v1.Fleet/GetBlob/response_streams: was True, is False",
    ),
]


@pytest.mark.parametrize(("change", "message"), BREAKS)
def test_a_removal_or_change_is_found(published: Schema, change: Callable[[Schema], object], message: str) -> None:
    later = copy.deepcopy(published)
    change(later)
    assert broken(published, later) == [message]


def test_a_renamed_field_is_a_removed_one(published: Schema) -> None:
    later = copy.deepcopy(published)
    fields = later["messages"]["fedcore.v1.Progress"]
    fields["done"] = fields.pop("step")
    assert broken(published, later) == ["/messages/fedcore.v1.Progress/step: removed"]


def test_numbers_are_used_once() -> None:
    for name, fields in current_schema()["messages"].items():
        numbers = [field["number"] for field in fields.values()]
        assert len(set(numbers)) == len(numbers), name


def test_zero_of_every_enum_is_unspecified() -> None:
    enums = current_schema()["enums"]
    assert enums
    for name, values in enums.items():
        assert [value for value, number in values.items() if number == 0] == [_constant(name) + "_UNSPECIFIED"]
        assert all(value.startswith(_constant(name) + "_") for value in values)


def _constant(name: str) -> str:
    """fedcore.v1.SomeEnum -> SOME_ENUM"""
    word = name.rpartition(".")[2]
    return "".join("_" + letter if letter.isupper() and index else letter for index, letter in enumerate(word)).upper()

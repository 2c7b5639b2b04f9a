import json
import os
from pathlib import Path

import pytest

from fedcore.core.errors import DataError, RunError
from fedcore.storage.json_file import Endpoint, read_endpoint, read_object

# What a crash, an editor or another program may leave in place of a JSON object.
SPOILT: dict[str, bytes] = {
    "nothing": b"",
    "zeros": bytes(64),
    "half": b'{"address": "a:1", "pi',
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "a list": b"[]",
    "null": b"null",
    "a long number": b"1" * 6000,
    "not UTF-8": "größe".encode("latin-1"),
    "half of UTF-16": "{}".encode("utf-16")[:3],
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_file_is_named_with_the_remedy(name: str, tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    path.write_bytes(SPOILT[name])
    with pytest.raises(RunError, match=rf"^{path}: .*; take a copy$"):
        read_object(path, remedy="take a copy")
    assert read_endpoint(path) is None


def test_the_kind_is_the_callers(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json: cannot be read as JSON: No such file or directory; make it"):
        read_object(tmp_path / "none.json", DataError, remedy="make it")
    with pytest.raises(DataError, match="Is a directory"):
        read_object(tmp_path, DataError, remedy="")


@pytest.mark.parametrize(
    "facts", [{}, {"address": "a:1"}, {"address": "a:1", "pid": "x"}, {"pid": 1}, {"address": 1, "pid": []}]
)
def test_facts_that_are_no_endpoint_are_none(facts: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text(json.dumps(facts))
    assert read_endpoint(tmp_path / "e.json") is None


def test_an_endpoint_is_read(tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text(json.dumps({"address": "a:1", "pid": os.getpid(), "more": 1}))
    assert read_endpoint(tmp_path / "e.json") == Endpoint("a:1", os.getpid())

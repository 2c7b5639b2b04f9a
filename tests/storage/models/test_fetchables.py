"""The table of what `fedcore fetch` offers."""

import re

from fedcore.storage.models.fetchables import FETCHABLES


def test_the_table_is_sound() -> None:
    for name, item in FETCHABLES.items():
        assert item.name == name
        assert len(item.package.sha256) == 64
        assert item.what == ("model" if item.recipe in ("folder", "gguf") else "data")
        assert item.package.kind == ("sdist" if item.recipe in ("vader", "nouns") else "wheel")


def test_every_package_is_pinned_to_one_file() -> None:
    for item in FETCHABLES.values():
        assert re.fullmatch(r"[0-9a-f]{64}", item.package.sha256), item.name
        assert re.fullmatch(r"\d+(\.\d+)+", item.package.version), item.name
        assert 0 < item.package.size_mb < 100, item.name


def test_models_and_data_are_told_apart() -> None:
    names = {what: [item.name for item in FETCHABLES.values() if item.what == what] for what in ("model", "data")}
    assert names == {
        "model": ["minilm", "smollm2"],
        "data": ["movies", "tweets", "amazon", "r8-train", "r8-test", "kind", "verbs"],
    }

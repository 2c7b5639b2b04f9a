import json
from pathlib import Path
from typing import Any

import pytest

from fedcore.core.errors import DataError
from fedcore.storage.models.prompt_tables import noun_kinds, verb_forms
from tests.storage.models.archives import tar, wheel

NOUNS_1 = b"""  1 This is the licence of the file.
00000010 03 n 01 entity 0 000 | all that is
00000020 05 n 02 living_thing 0 organism 0 001 @ 00000010 n 0000 | what lives; "a cat lives"
"""
NOUNS_2 = b"""00000030 05 n 01 cat 0 002 @ 00000020 n 0000 ~ 00000040 n 0000 | a pet; or another; "the cat sat"
00000040 18 n 01 Felix 0 001 @i 00000030 n 0000 | one cat
"""
LEXNAMES = b"03\tnoun.Tops\t1\n05\tnoun.animal\t1\n18\tnoun.person\t1\n\n"


def nouns(folder: Path, **changes: bytes) -> Path:
    members = {"data.noun1": NOUNS_1, "data.noun2": NOUNS_2, "lexnames": LEXNAMES} | changes
    archive = folder / "p.tar.gz"
    archive.write_bytes(tar({f"p/dict/{name}": content for name, content in members.items()}))
    return archive


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_a_noun_is_of_the_kind_of_its_hypernym(tmp_path: Path) -> None:
    noun_kinds(nouns(tmp_path), "p/dict", tmp_path / "k.jsonl")
    assert rows(tmp_path / "k.jsonl") == [
        {
            "prompt": "living thing: what lives\nWhat kind of thing is it?",
            "response": ["entity"],
            "domain": "animal",
        },
        {
            "prompt": "cat: a pet; or another\nWhat kind of thing is it?",
            "response": ["living thing", "organism"],
            "domain": "animal",
        },
    ]


@pytest.mark.parametrize("changes", [{"lexnames": b"03\tnoun.Tops\t1\n"}, {"data.noun2": b"00000030 05 n 99 cat\n"}])
def test_another_layout_of_nouns_is_refused(tmp_path: Path, changes: dict[str, bytes]) -> None:
    with pytest.raises(DataError, match="not the package that was pinned"):
        noun_kinds(nouns(tmp_path, **changes), "p/dict", tmp_path / "k.jsonl")


def verbs(folder: Path, languages: tuple[str, ...] = ("es", "fr", "it", "pt", "ro")) -> Path:
    table = {
        "habl:ar": {
            "Indicativo": {
                "GerÃºndio": [[0, "ia"], [1, "ias"], [2, "ia"]],
                "Compuesto": [[0, "ado"], [1, "ado"], [2, "ado"]],
                "Infinitivo": "ar",
            }
        },
        "empty": {"Indicativo": {"Presente": [[0, ""], [1, ""], [2, "a"]]}},
    }
    found = {"hablar": {"root": "habl", "template": "habl:ar"}, "zz": {"root": "", "template": "empty"}}
    members = {}
    for code in languages:
        members[f"m/verbs-{code}.json"] = json.dumps(found).encode()
        members[f"m/conjugation-{code}.json"] = json.dumps(table).encode()
    return wheel(folder / "v.whl", members)


def test_a_form_is_a_root_and_an_ending_of_a_simple_tense(tmp_path: Path) -> None:
    verb_forms(verbs(tmp_path), "m", tmp_path / "v.jsonl")
    found = rows(tmp_path / "v.jsonl")
    assert len(found) == 5 and {row["language"] for row in found} >= {"Italian", "Romanian"}
    spanish = [row for row in found if row["language"] == "Spanish"]
    assert spanish[0]["prompt"].startswith("Spanish verb hablar: Gerúndio, person ")
    assert spanish[0]["response"] in ("hablia", "hablias")


def test_a_missing_language_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="verbs-fr"):
        verb_forms(verbs(tmp_path, ("es", "it")), "m", tmp_path / "v.jsonl")

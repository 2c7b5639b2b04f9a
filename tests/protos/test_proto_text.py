import re

import pytest

from fedcore.protos.generate import ROOT, SOURCES
from tests.protos.schema import current_schema

MEMBER = re.compile(r"^(?:(?:repeated|optional)\s+)?(?:map<.*>\s+|[\w.]+\s+)?(\w+)\s*=\s*\d+\s*;|^rpc\s+(\w+)")


def uncommented(text: str) -> tuple[list[str], int]:
    """Names of fields, enum values and methods without a comment on their line or above, and how many there are."""
    bare, count, above = [], 0, False
    for line in (each.strip() for each in text.splitlines()):
        found = MEMBER.match(line)
        if found:
            count += 1
            if not above and not line.partition("//")[2].strip():
                bare.append(found[1] or found[2])
        above = line.startswith("//") and line != "//"
    return bare, count


@pytest.mark.parametrize("source", SOURCES)
def test_every_field_value_and_method_is_explained(source: str) -> None:
    bare, _ = uncommented((ROOT / source).read_text())
    assert bare == []


def test_none_is_overlooked() -> None:
    schema = current_schema()
    members = sum(len(each) for part in schema.values() for each in part.values())
    assert sum(uncommented((ROOT / source).read_text())[1] for source in SOURCES) == members


def test_a_missing_comment_is_found() -> None:
    text = """
    message A {
      string said = 1;  // of people
      string bare = 2;
      // above
      repeated B above = 3;
      optional double empty = 4;  //
      map<string, B> pairs = 5;
    }
    service S {
      rpc Call(A) returns (B);
    }
    """
    assert uncommented(text) == (["bare", "empty", "pairs", "Call"], 6)


@pytest.mark.parametrize("source", SOURCES)
def test_every_file_is_of_version_one(source: str) -> None:
    text = (ROOT / source).read_text()
    assert text.startswith('syntax = "proto3";\n\npackage fedcore.v1;\n')
    assert all(name.startswith("fedcore/protos/v1/") for name in re.findall(r'import "(.*)"', text))

"""docs/reference/api.md has a row for every public name, and no other; its examples name what there is."""

import ast
import re
from pathlib import Path

import fedcore

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "api.md"
ROW = re.compile(r"^\| `(\w+)` \| ", re.MULTILINE)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_public_name_stands_in_the_page_once() -> None:
    assert sorted(ROW.findall(PAGE.read_text(encoding="utf-8"))) == fedcore.__all__


def test_examples_use_public_names_alone() -> None:
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) >= 3
    used = {
        node.attr
        for block in blocks
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "fedcore"
    }
    assert {"simulate", "strategy", "unpruned"} <= used <= set(fedcore.__all__)

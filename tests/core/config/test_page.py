import re

import pytest

from fedcore.core.config.keys import keys_of
from fedcore.core.config.page import CLASS, filled, key_table
from fedcore.core.config.tables import TABLES, ClassConfig

NAMES = [*TABLES, CLASS]
EMPTY = "# Keys\n" + "".join(
    f"\n## {name}\nWords.\n<!-- keys of {name} -->\n<!-- end of keys -->\nMore.\n" for name in NAMES
)


def test_a_row_says_type_default_range_and_meaning() -> None:
    rows = key_table("coordinator").splitlines()
    assert rows[0] == "| key | type | default | range | meaning |"
    assert rows[3] == "| `lease_s` | number (s) | `30.0` | above 0 | silence after which a device counts as lost |"
    assert key_table("run").splitlines()[3].startswith("| `seed` | whole number | `0` | [0, 2**63) | seed of ")


def test_lists_choices_and_missing_values_have_words() -> None:
    strategy, data, devices = (key_table(name) for name in ("strategy", "data", CLASS))
    assert "| `ranks` | list of whole numbers | `[4, 8, 16]` | one or more, each at least 1, ascending | " in strategy
    assert '| `exploration` | number | `"auto"` | at least 0 | ' in strategy
    assert "| `weights` | text | | `examples`, `effective` | " in strategy
    assert "| `context` | true or false | `false` | | " in strategy
    assert '| `text` | text or list of text | `"text"` | one or two | ' in data
    assert "| `name` | text | needed | | " in devices


def test_only_the_tables_are_made_anew() -> None:
    page = filled(EMPTY)
    assert filled(page) == page
    assert re.sub(r"(-->\n)\n.*?\n\n(<!-- end)", r"\1\2", page, flags=re.DOTALL) == EMPTY
    for name in NAMES:
        assert f"<!-- keys of {name} -->\n\n{key_table(name)}\n<!-- end of keys -->\nMore.\n" in page
    assert page.count("\n| `") == sum(len(keys_of(table)) for table in (*TABLES.values(), ClassConfig))


@pytest.mark.parametrize(
    ("page", "places"),
    [("# Keys\n", "none"), (EMPTY.replace("keys of model", "keys of modal"), r"run, task, modal, data, .*")],
)
def test_a_page_without_a_place_for_every_table_is_refused(page: str, places: str) -> None:
    with pytest.raises(ValueError, match=f"expected <!-- keys of NAME --> for run, task, model, .*; got {places}$"):
        filled(page)

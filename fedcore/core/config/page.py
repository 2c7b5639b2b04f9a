"""The tables of docs/reference/configuration.md, made from the keys. The text between them is written by hand.

A table stands between `<!-- keys of NAME -->` and `<!-- end of keys -->`.
"""

import re
from typing import Any

from fedcore.core.config.keys import Key, keys_of
from fedcore.core.config.kinds import AUTO, automatic, item_kind, options
from fedcore.core.config.tables import TABLES, ClassConfig
from fedcore.core.config.toml import literal

CLASS = "fleet.class"
HEAD = "| key | type | default | range | meaning |\n|---|---|---|---|---|\n"
WORDS = {str: "text", bool: "true or false", int: "whole number", float: "number"}
_PLACE = re.compile(r"<!-- keys of ([a-z.]+) -->\n.*?<!-- end of keys -->\n", re.DOTALL)


def filled(page: str) -> str:
    """Return the page with every table of keys made anew.

    Raises ValueError unless the page has one place for each table of the configuration.
    """
    tables = [*TABLES, CLASS]
    places = _PLACE.findall(page)
    if places != tables:
        raise ValueError(f"expected <!-- keys of NAME --> for {', '.join(tables)}; got {', '.join(places) or 'none'}")
    return _PLACE.sub(
        lambda place: f"<!-- keys of {place[1]} -->\n\n{key_table(place[1])}\n<!-- end of keys -->\n", page
    )


def key_table(name: str) -> str:
    """Return the Markdown table of one table's keys, in the order in which they are written out."""
    table: type[Any] = ClassConfig if name == CLASS else TABLES[name]
    return HEAD + "".join(_row(key) for key in keys_of(table).values())


def _row(key: Key) -> str:
    ranges = ", ".join(rule.words for rule in key.rules if rule.words)
    cells = (f"`{key.name}`", _kind(key), _default(key), ranges, key.meaning)
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|\n"


def _default(key: Key) -> str:
    """Return the default as TOML, "needed" where there is none, no text where the meaning covers a missing value."""
    if key.needed:
        return "needed"
    if automatic(key.kind) and key.default is None:
        return f'`"{AUTO}"`'
    return "" if key.default is None else f"`{literal(key.default)}`"


def _kind(key: Key) -> str:
    words = " or ".join(_called(option) for option in options(key.kind))
    return f"{words} ({key.unit})" if key.unit else words


def _called(kind: Any) -> str:
    item = item_kind(kind)
    return WORDS[kind] if item is None else f"list of {'text' if item is str else WORDS[item] + 's'}"

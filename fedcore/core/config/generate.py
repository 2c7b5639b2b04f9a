"""Write the files that are made from the tables: `python -m fedcore.core.config.generate`; `--check` only compares.

The files are docs/fedcore.schema.json, and the tables of docs/reference/configuration.md between their comments.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from fedcore.core.config.page import filled
from fedcore.core.config.schema import schema_text

ROOT = Path(__file__).resolve().parents[3]
SCHEMA, PAGE = "docs/fedcore.schema.json", "docs/reference/configuration.md"


def generated(root: Path) -> Mapping[str, str]:
    """Return the text that each file below `root` should have; raises OSError where the page is missing."""
    return {SCHEMA: schema_text(), PAGE: filled((root / PAGE).read_text(encoding="utf-8"))}


def stale(root: Path) -> list[str]:
    """Return the files below `root` that are missing or have another text."""
    return [
        name
        for name, text in generated(root).items()
        if not (root / name).exists() or (root / name).read_text(encoding="utf-8") != text
    ]


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Write the files, or compare them with `--check`; returns 1 where one is stale."""
    if arguments != ["--check"]:
        for name, text in generated(root).items():
            (root / name).write_text(text, encoding="utf-8")
        return 0
    differing = stale(root)
    if differing:
        sys.stderr.write(f"stale: {', '.join(differing)}; run python -m fedcore.core.config.generate\n")
    return 1 if differing else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

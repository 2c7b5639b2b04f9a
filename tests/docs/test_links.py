"""What the pages point at is there: links, and paths of this repository in backticks."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)|src=\"([^\"]+)\"")
CODE = re.compile(r"`([\w./-]+)`")
FOLDERS = ("fedcore/", "strategies/", "protos/", "server/", "client/", "tests/", "docs/", "benchmarks/", "examples/")


def named(page: Path) -> list[Path]:
    links = [first or second for first, second in LINK.findall(page.read_text())]
    return [page.parent / each for each in links if "://" not in each]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert [each for each in named(page) if not each.exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_in_backticks_exists(page: Path) -> None:
    paths = [each for each in CODE.findall(page.read_text()) if each.startswith(FOLDERS)]
    concrete = [each for each in paths if "NAME" not in each]
    assert [each for each in concrete if not (ROOT / each).exists()] == []


def test_there_are_pages() -> None:
    assert len(PAGES) > 10

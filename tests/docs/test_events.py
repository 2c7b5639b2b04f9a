"""docs/reference/summary.md has a row for every event that the code can write."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
WRITTEN = re.compile(r"\.event\(\s*\"([a-z_]+)\"|\"event\": \"([a-z_]+)\"")
ROW = re.compile(r"^\| `(\w+)` \|", re.MULTILINE)


def test_every_event_stands_in_the_page() -> None:
    folders = ("server", "strategies", "fedcore/simulation", "fedcore/local_fleet")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    written = {one or other for path in files for one, other in WRITTEN.findall(path.read_text())}
    assert {"choice", "reward", "round_closed", "pace"} <= written
    page = (ROOT / "docs" / "reference" / "summary.md").read_text().partition("## events.jsonl")[2]
    assert written == set(ROW.findall(page))

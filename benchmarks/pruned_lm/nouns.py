"""The task's rows: every eighth noun of `fetch:kind`, in a file of the cache. All of them take minutes to encode."""

from pathlib import Path

from fedcore.storage.models.cache import build_entry, cache_folder
from fedcore.storage.models.fetch import resolve

EVERY = 8


def nouns() -> Path:
    """Return the JSON lines of prompt, response and domain; raises as `fedcore.storage.models.fetch.fetch`."""
    return build_entry(cache_folder() / f"pruned-lm-nouns-{EVERY}", _build) / "nouns.jsonl"


def _build(folder: Path) -> None:
    lines = Path(resolve("fetch:kind", "data")).read_text(encoding="utf-8").splitlines()
    (folder / "nouns.jsonl").write_text("\n".join(lines[::EVERY]) + "\n", encoding="utf-8")

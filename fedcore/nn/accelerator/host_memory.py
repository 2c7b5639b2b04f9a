"""How much memory this machine, or the container that this process runs in, has left."""

import os
from dataclasses import dataclass
from pathlib import Path

KIB = 1024
UNLIMITED = 1 << 60  # cgroup v1 has no word for it but a huge number
_GROUPS = (  # limit, what is used, its statistics, the key of page cache that gives way; v2 and v1
    ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current", "sys/fs/cgroup/memory.stat", "inactive_file"),
    (
        "sys/fs/cgroup/memory/memory.limit_in_bytes",
        "sys/fs/cgroup/memory/memory.usage_in_bytes",
        "sys/fs/cgroup/memory/memory.stat",
        "total_inactive_file",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeMemory:
    """Bytes that are free, of so many in all."""

    free: int
    total: int


def host_memory(root: Path = Path("/")) -> FreeMemory | None:
    """Return what a process may still take: the machine's available memory, or less where its cgroup allows less.

    `root` is where proc and sys are mounted. None where the system does not tell: it is no Linux.
    """
    machine = _machine(root)
    groups = (_group(root, *names) for names in _GROUPS)
    known = [memory for memory in (machine, *groups) if memory is not None]
    return min(known, key=lambda memory: memory.free, default=None) or _physical()


def _machine(root: Path) -> FreeMemory | None:
    figures = _numbers(root / "proc/meminfo")
    if not {"MemAvailable:", "MemTotal:"} <= figures.keys():
        return None
    return FreeMemory(free=figures["MemAvailable:"] * KIB, total=figures["MemTotal:"] * KIB)


def _group(root: Path, limit_file: str, used_file: str, stat_file: str, cache: str) -> FreeMemory | None:
    limit, used = _number(root / limit_file), _number(root / used_file)
    if limit is None or used is None or limit >= UNLIMITED:
        return None
    given_way = _numbers(root / stat_file).get(cache, 0)
    return FreeMemory(free=max(0, limit - used + given_way), total=limit)


def _physical() -> FreeMemory | None:
    """Return half of the memory that is built in, where a system tells no more."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    return FreeMemory(free=total // 2, total=total)


def _number(file: Path) -> int | None:
    text = _text(file).strip()
    return int(text) if text.isdigit() else None  # v2 says "max" for no limit


def _numbers(file: Path) -> dict[str, int]:
    """Return the lines "name number ..." of a file as a table."""
    lines = (line.split() for line in _text(file).splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

"""Memory of this process: now and at its peak."""

import resource
import sys
from dataclasses import dataclass
from pathlib import Path

STATUS = Path("/proc/self/status")
KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Resident set size in bytes; `resident_bytes` is None if the system does not report it."""

    resident_bytes: int | None
    peak_bytes: int


def read_memory(status: Path = STATUS) -> Memory:
    """Return this process's memory, from Linux's /proc; on other systems only the peak, from getrusage."""
    try:
        lines = status.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    sizes = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
    if "VmRSS" in sizes and "VmHWM" in sizes:
        return Memory(resident_bytes=int(sizes["VmRSS"][0]) * KIB, peak_bytes=int(sizes["VmHWM"][0]) * KIB)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Memory(resident_bytes=None, peak_bytes=peak if sys.platform == "darwin" else peak * KIB)

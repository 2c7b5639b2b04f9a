"""Accelerators by name: which one a process takes, and how a fleet on one machine deals them out.

A name is "cpu", a kind ("cuda", "mps", "xpu"), a kind with a number ("cuda:1"), or "auto": an accelerator of the first
kind that there is, else the CPU. ROCm builds of PyTorch call their devices cuda.
"""

import re
from collections import Counter
from collections.abc import Sequence

from fedcore.core.errors import ConfigError

AUTO = "auto"
CPU = "cpu"
KINDS = ("cuda", "mps", "xpu")  # in the order that AUTO tries them
PATTERN = r"auto|cpu|mps|(cuda|xpu)(:[0-9]+)?"
_NAME = re.compile(PATTERN)


def check_device(name: str, where: str) -> None:
    """Raise ConfigError, naming `where`, unless `name` is that of a device, whether it is there or not."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: expected auto, cpu, cuda, mps or xpu, or one by number as cuda:1; got {name!r}")


def chosen(wanted: str, there: Sequence[str], where: str = "--device") -> str:
    """Return the one device that `wanted` stands for.

    `there` are the machine's accelerators, numbered in the order given: ("cuda:0", "cuda:1"), or ("mps",). Raises
    ConfigError, naming `where` and what is there, for a device that is not.
    """
    return fitting(wanted, there, where)[0]


def fitting(wanted: str, there: Sequence[str], where: str = "--device") -> tuple[str, ...]:
    """Return all devices that `wanted` may stand for, at least one; errors as `chosen`."""
    check_device(wanted, where)
    if wanted == CPU:
        return (CPU,)
    kinds = KINDS if wanted == AUTO else (wanted,)
    found = (tuple(name for name in there if name == kind or name.startswith(f"{kind}:")) for kind in kinds)
    names: tuple[str, ...] = next(filter(None, found), ())
    if names or wanted == AUTO:
        return names or (CPU,)
    if there:
        raise ConfigError(f"{where}: no {wanted} on this machine, which has {', '.join(there)}; take one, auto or cpu")
    raise ConfigError(
        f"{where}: no {wanted}: PyTorch finds no accelerator here; install its driver and a build of PyTorch for it, "
        "or take cpu"
    )


def dealt(wanted: Sequence[tuple[str, str]], there: Sequence[str]) -> tuple[str, ...]:
    """Return a device for every (wanted, where), in order: of those that fit, the one with the fewest takers so far.

    Devices named by number count as takers of theirs. Raises as `chosen`.
    """
    takers: Counter[str] = Counter()
    given = []
    for name, where in wanted:
        device = min(fitting(name, there, where), key=lambda fits: takers[fits])  # the first of equals
        takers[device] += 1
        given.append(device)
    return tuple(given)

"""What a device or an evaluator is started with."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedcore.core.accelerators import AUTO
from fedcore.core.errors import ConfigError
from fedcore.storage.pki.certificates import TlsMaterial


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOptions:
    """Where a client's rows come from, and which of them it takes.

    `test` None holds back `test_fraction` of `train` by text hash. `shard` (index from 1, of so many) takes one part;
    with `ask_shard` the coordinator says which one, and how parts are cut.
    """

    train: str
    test: str | None
    text: tuple[str, ...]
    label: str
    test_fraction: float
    by: str = ""  # a column that rows are dealt by, and read with; empty: none
    shard: tuple[int, int] | None = None
    ask_shard: bool = False
    partition: str = "dirichlet"
    alpha: float = 1.0
    seed: int = 0
    replay: str = ""  # general texts to train on beside the rows; empty: none
    task: str = ""  # a name of fedcore.core.tasks.table, which says how rows are read; empty: rows with a label


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """Connection, model and place on disk.

    `targets`: HOST:PORT of one or more parents, best first. `model` None fetches the coordinator's base model.
    """

    targets: tuple[str, ...]
    name: str
    tls: TlsMaterial | None
    model: Path | None
    data: DataOptions
    state: Path
    reconnect_s: float
    say: Callable[[str], None]
    alive: Path | None = None  # a file to touch as long as a parent is heard
    device: str = AUTO  # which accelerator trains and measures, see fedcore.core.accelerators
    precision: str = ""  # in which it trains, see fedcore.core.precision; empty: as the run says
    metric: str = ""  # "module:function" that an evaluator lets the run call: it is code, and the run's owner names it


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLimits:
    """What a device is, and its emulated limits; 0 is not limited.

    `memory_sharers` above 0: the memory is what is free where it trains, shared by so many processes.
    """

    device_class: str
    slowdown: float = 1.0
    memory_mb: float = 0.0
    memory_sharers: int = 0
    uplink_mbps: float = 0.0
    downlink_mbps: float = 0.0
    network: str = ""  # network class; limits nothing


def parse_memory(text: str) -> tuple[float, int]:
    """Return (MiB, sharers) of "512", "auto" or "auto/3", a third of what is free; raises ConfigError on others."""
    word, slash, count = text.partition("/")
    if word == AUTO and (not slash or (count.isdigit() and int(count) >= 1)):
        return 0.0, int(count or 1)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (number >= 0 and math.isfinite(number)):
        raise ConfigError(f"--memory-mb {text!r}: expected MiB of at least 0, auto, or auto/3 for a third of it")
    return number, 0


def parse_shard(text: str) -> tuple[int, int]:
    """Parse "3/6"; raises ConfigError on anything but 1 <= index <= count."""
    index, slash, count = text.partition("/")
    if not slash or not index.isdigit() or not count.isdigit() or not 1 <= int(index) <= int(count):
        raise ConfigError(f"--shard {text!r}: expected INDEX/COUNT with 1 <= INDEX <= COUNT, for example 3/6, or auto")
    return int(index), int(count)

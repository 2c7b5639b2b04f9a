"""What every device of a fleet trains on: rows, labels and their shares, and what is too little of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

FEW = 3  # rows: a device with as many or fewer hardly learns, and its probe measures nothing
SHOWN_LABELS = 3
SHOWN_DEVICES = 5
LONGEST_LABEL = 32  # characters of a label that are shown


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRows:
    """The training rows of one device by label; every count is 1 or more."""

    device: str
    device_class: str
    labels: Mapping[str, int]
    unlabelled: int = 0  # rows, under a task without labels
    values: Mapping[str, int] = field(default_factory=dict)  # rows by value of the column that they are dealt by

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(self.labels.values()) + self.unlabelled


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRows:
    """The rows of a run: by device in the order of the fleet, all training rows by label, and those held back.

    `held_back` is None where it is not known, as on a coordinator.
    """

    devices: tuple[DeviceRows, ...]
    labels: Mapping[str, int]
    held_back: int | None
    unlabelled: int = 0  # training rows, under a task without labels
    column: str = ""  # that rows are dealt by, as data.partition says; empty: by none
    values: Mapping[str, int] = field(default_factory=dict)  # training rows by value of that column

    @property
    def rows(self) -> int:
        """Number of training rows, whether or not a device has them."""
        return sum(self.labels.values()) + self.unlabelled

    @property
    def most_by_class(self) -> dict[str, int]:
        """The rows of the device with the most of them, by class."""
        most: dict[str, int] = {}
        for device in self.devices:
            most[device.device_class] = max(device.rows, most.get(device.device_class, 0))
        return most

    @property
    def few(self) -> tuple[DeviceRows, ...]:
        """Devices of FEW rows or fewer, those with the fewest first."""
        return tuple(sorted((each for each in self.devices if each.rows <= FEW), key=lambda each: each.rows))

    @property
    def single(self) -> tuple[DeviceRows, ...]:
        """Devices whose rows all have one label."""
        return tuple(each for each in self.devices if len(each.labels) == 1)

    @property
    def largest(self) -> DeviceRows:
        """The first device with the most rows; there is one."""
        return max(self.devices, key=lambda each: each.rows)

    @property
    def smallest(self) -> DeviceRows:
        """The first device with the fewest rows; there is one."""
        return min(self.devices, key=lambda each: each.rows)


def opening_lines(fleet: FleetRows) -> tuple[str, ...]:
    """Return what a run says of its rows before it begins: two lines, and one more for each thing to look at."""
    held_back = "" if fleet.held_back is None else f", {fleet.held_back:,} held back"
    lines = [f"rows: {fleet.rows:,} to train on{held_back}; {label_shares(fleet.labels)}"]
    if fleet.devices:
        lines.append(_devices_line(fleet))
    if fleet.column:
        lines.append(f"dealt by column {fleet.column!r}: {value_shares(fleet.values, SHOWN_DEVICES)}")
    return (*lines, *row_doubts(fleet))


def row_doubts(fleet: FleetRows) -> tuple[str, ...]:
    """Return warnings about devices of too few rows, and about devices of a single label."""
    doubts = []
    if fleet.few:
        named = _named([f"{each.device} ({each.rows})" for each in fleet.few])
        doubts.append(
            f"warning: {counted(len(fleet.few), 'device')} of 1 to {FEW} rows, too few to learn from: {named}; take "
            'fewer devices, more rows, a larger data.alpha or data.partition = "iid"'
        )
    if fleet.single:
        named = _named([f"{each.device} ({_plain(next(iter(each.labels)))})" for each in fleet.single])
        doubts.append(f"one label alone: {len(fleet.single)} of {counted(len(fleet.devices), 'device')}: {named}")
    return tuple(doubts)


def label_shares(labels: Mapping[str, int], shown: int = SHOWN_LABELS) -> str:
    """Return "2 labels: ham 88%, spam 12%", the most frequent first; "no labels" without any."""
    if not labels:
        return "no labels"
    return f"{counted(len(labels), 'label')}: {shares(labels, shown)}"


def value_shares(values: Mapping[str, int], shown: int = SHOWN_LABELS) -> str:
    """Return "2 values: en 88%, de 12%", the most frequent first; empty without any."""
    return f"{counted(len(values), 'value')}: {shares(values, shown)}" if values else ""


def shares(labels: Mapping[str, int], shown: int = SHOWN_LABELS) -> str:
    """Return "ham 88%, spam 12%", the most frequent first, and how many are left out."""
    total, ordered = sum(labels.values()), Counter(labels).most_common()
    told = ", ".join(f"{_plain(label)} {percent(rows, total)}" for label, rows in ordered[:shown])
    return told + (f" and {len(ordered) - shown} more" if len(ordered) > shown else "")


def percent(part: int, whole: int) -> str:
    """Return a share as "12%"; none that is not all or nothing looks as if it were."""
    share = part / whole if whole else 0.0
    if 0 < share < 0.01:
        return "<1%"
    if 0.99 < share < 1:
        return ">99%"
    return f"{share:.0%}"


def counted(number: int, thing: str) -> str:
    """Return "1 device" or "1,200 devices"."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def _devices_line(fleet: FleetRows) -> str:
    largest, smallest = fleet.largest, fleet.smallest
    if largest is smallest:  # one device, or all have as many
        amount = f"{counted(largest.rows, 'row')}{' each' if len(fleet.devices) > 1 else ''}"
        mix = f"; {largest.device}: {shares(largest.labels)}" if largest.labels else ""
        return f"devices: {len(fleet.devices):,} with {amount}{mix}"
    return (
        f"devices: {len(fleet.devices):,} with {smallest.rows:,} to {largest.rows:,} rows; most on {_mixed(largest)}, "
        f"fewest on {_mixed(smallest)}"
    )


def _mixed(device: DeviceRows) -> str:
    return f"{device.device} ({shares(device.labels)})" if device.labels else device.device


def _plain(label: str) -> str:
    """Return a label as it is shown: on one line, without control characters, its middle left out where it is long."""
    seen = "".join(each if each.isprintable() else " " for each in label)
    return seen if len(seen) <= LONGEST_LABEL else f"{seen[: LONGEST_LABEL - 13]}...{seen[-10:]}"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_DEVICES:,} more" if len(names) > SHOWN_DEVICES else ""
    return ", ".join(names[:SHOWN_DEVICES]) + more

"""What a coordinator says of its devices' rows when the first round of the process begins."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedcore.core.contract.protocols import Json
from fedcore.core.data.device_rows import DeviceRows, FleetRows, opening_lines


@dataclass(slots=True)
class Opening:
    """Gathers rows and labels from the events of joined devices (an `Observer`); says them once, before a round."""

    say: Callable[[str], object]
    _devices: dict[str, DeviceRows] = field(default_factory=dict)
    _said: bool = False

    def event(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Keep what a joined device tells; at the first choice of an arm, say what is known."""
        if self._said:
            return
        if kind == "joined" and fields["role"] == "device" and fields.get("label_counts"):
            name, labels = fields["device"], {label: int(rows) for label, rows in fields["label_counts"]}
            self._devices[name] = DeviceRows(device=name, device_class=fields["device_class"], labels=labels)
        elif kind == "choice" and self._devices:
            self._said = True
            for line in opening_lines(self._rows()):
                self.say(line)

    def rows(self, rows: Sequence[Json]) -> None:
        """Say nothing: outcomes come after the first round."""

    def _rows(self) -> FleetRows:
        labels: Counter[str] = Counter()
        for device in self._devices.values():
            labels.update(device.labels)
        return FleetRows(devices=tuple(self._devices.values()), labels=labels, held_back=None)

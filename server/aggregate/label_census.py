"""Training rows by label over every device that has joined, kept up to date by looking at newcomers only."""

from collections import Counter
from collections.abc import Mapping

from fedcore.core.contract.profile import DeviceProfile


class LabelCensus:
    """Counts of the fleet, and whose they are."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._rows: Counter[str] = Counter()
        self._counted: dict[str, DeviceProfile] = {}

    def rows(self, profiles: Mapping[str, DeviceProfile], labels: tuple[str, ...]) -> tuple[int, ...]:
        """Return the rows of all of `profiles` by label; a profile that is another than before counts anew."""
        for name in self._counted.keys() - profiles.keys():
            self._rows.subtract(dict(self._counted.pop(name).label_counts))
        for name, profile in profiles.items():
            known = self._counted.get(name)
            if known is not profile:
                if known is not None:
                    self._rows.subtract(dict(known.label_counts))
                self._rows.update(dict(profile.label_counts))
                self._counted[name] = profile
        return tuple(self._rows[label] for label in labels)

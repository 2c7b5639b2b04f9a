"""A run's folder to read from, whoever made it: `fedcore.simulate`, `fedcore.fleet` or the command line."""

import csv
import json
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, overload

from fedcore.core.config.tables import Config
from fedcore.core.contract.profile import check_name
from fedcore.core.contract.protocols import Json
from fedcore.core.errors import ConfigError, RunError
from fedcore.server.run.journal import COLUMNS, read_events
from fedcore.server.run.run_folder import RunFolder, read_settings

if TYPE_CHECKING:
    import pandas

WORDS = ("device", "class", "status", "timing", "network")  # columns of text; all others hold numbers


class RoundRows(Sequence[Json]):
    """The rows of rounds.csv, one per round and device, as dicts; a number that is not known is None."""

    def __init__(self, rows: Sequence[Json]) -> None:
        """Hold `rows`, in the order of the file."""
        self._rows = tuple(rows)

    def to_pandas(self) -> "pandas.DataFrame":
        """Return the rows as a pandas frame; raises ConfigError where pandas is not installed."""
        try:
            import pandas
        except ImportError:
            raise ConfigError("to_pandas needs pandas: pip install pandas") from None
        return pandas.DataFrame.from_records(list(self._rows), columns=list(COLUMNS))

    @overload
    def __getitem__(self, index: int) -> Json: ...
    @overload
    def __getitem__(self, index: slice) -> "RoundRows": ...
    def __getitem__(self, index: int | slice) -> "Json | RoundRows":
        return RoundRows(self._rows[index]) if isinstance(index, slice) else self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"<{len(self)} rows of {len({row['round'] for row in self._rows})} rounds>"


class Run:
    """One run, read from its folder as it is now; the run may still be going on.

    run = fedcore.Run("runs/quickstart")
    run.summary["classes"]["nx"]["test"]["accuracy"]
    run.rounds.to_pandas().groupby("class")["reward"].mean()
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        """Open the folder; raises RunError where it is none of a run."""
        self._folder = RunFolder.existing(Path(path))

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self._folder.root

    @property
    def config(self) -> Config:
        """The resolved configuration; raises RunError or ConfigError where its file is damaged."""
        return read_settings(self._folder)

    @property
    def summary(self) -> Json:
        """The final figures, as summary.json has them; raises RunError where the run has not finished."""
        if not self._folder.summary.is_file():
            raise RunError(f"{self.path} has no summary.json: the run has not finished; wait for its end, or resume it")
        try:
            summary: Json = json.loads(self._folder.summary.read_text(encoding="utf-8"))
        except ValueError as cause:
            raise RunError(f"{self._folder.summary} is damaged: {cause}; restore it from a copy") from None
        return summary

    @property
    def rounds(self) -> RoundRows:
        """What every device did in every closed round; empty before the first."""
        path = self._folder.rounds
        if not path.is_file():
            return RoundRows(())
        with path.open(encoding="utf-8", newline="") as file:
            try:
                return RoundRows([_row(cells) for cells in csv.DictReader(file)])
            except ValueError as cause:
                raise RunError(f"{path} is damaged: {cause}; resuming the run writes it anew") from None

    def events(self) -> Iterator[Json]:
        """Yield every event so far, in order, as events.jsonl has them."""
        return read_events(self._folder.events) if self._folder.events.is_file() else iter(())

    def export(
        self,
        device_class: str | None = None,
        *,
        sparsity: float | None = None,
        out: str | PathLike[str] | None = None,
    ) -> Path:
        """Write a pruned and merged model, and return its folder, which plain transformers load.

        Pruned as for `device_class`, or to a `sparsity` in [0, 1). Without `out` it lies in the run's exports/, and
        what a finished run has there already is returned as it is; a folder given as `out` must not exist.
        Raises ConfigError for a class that the run lacks, RunError where no round has closed.
        """
        from fedcore.local_fleet.client_extra import require_client
        from fedcore.local_fleet.export import ExportRequest, export_run

        if (device_class is None) == (sparsity is None):
            raise ConfigError('give either a device class, export("NAME"), or export(sparsity=S)')
        if sparsity is not None and not 0 <= sparsity < 1:
            raise ConfigError(f"sparsity: expected a number in [0, 1), got {sparsity}")
        if device_class is not None:
            check_name(device_class, "device class")
        place = Path(out) if out is not None else self._folder.exports / (device_class or f"sparsity-{sparsity}")
        if place.exists():
            if out is None and self._folder.summary.is_file():
                return place
            raise RunError(f"{place} exists; choose a new folder with out=")
        require_client("Run.export")
        export_run(self._folder, ExportRequest(device_class=device_class, sparsity=sparsity, out=place))
        return place

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"


def _row(cells: dict[str, str]) -> Json:
    return {name: cell if name in WORDS else _number(cell) for name, cell in cells.items()}


def _number(cell: str) -> float | None:
    if not cell:
        return None
    try:
        return int(cell)
    except ValueError:
        return float(cell)

"""A run is a folder: the paths inside it, and the name of a new one."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedcore.core.boundary import Boundary
from fedcore.core.config.tables import Config
from fedcore.core.config.toml import parse_config
from fedcore.core.errors import RunError


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths inside one run's folder."""

    root: Path

    @staticmethod
    def create(name: str, *, base: Path, chosen: Path | None = None) -> "RunFolder":
        """Make `chosen`, or base/name, or base/name-2, -3, ... if earlier runs have the name.

        Raises RunError if `chosen` exists and is not empty, so that nothing of an earlier run is overwritten.
        """
        if chosen is not None:
            if chosen.exists() and (not chosen.is_dir() or any(chosen.iterdir())):
                raise RunError(
                    f"{chosen} exists and is not empty; choose a new folder, or go on with --resume {chosen}"
                )
            chosen.mkdir(parents=True, exist_ok=True)
            return RunFolder(chosen)
        base.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            root = base / (name if number == 1 else f"{name}-{number}")
            try:
                root.mkdir()
                return RunFolder(root)
            except FileExistsError:
                number += 1

    @contextlib.contextmanager
    def withdrawn_on_failure(self, *, keep: Sequence[Path] = ()) -> Iterator[None]:
        """Take a new folder away again, and the one it lies in, where the block fails before anything lies in them.

        Folders in `keep`, such as those that were there before, stay.
        """
        try:
            yield
        except BaseException:
            for made in (self.root, self.root.parent):
                if made in keep:
                    break
                with contextlib.suppress(OSError):  # not empty: an earlier run's
                    made.rmdir()
            raise

    @staticmethod
    def newest(name: str, *, base: Path) -> "RunFolder | None":
        """Return the last of base/name, base/name-2, ... with a ledger; None if there is none."""
        number_of = re.compile(rf"{re.escape(name)}(?:-([1-9]\d*))?")
        runs: dict[int, RunFolder] = {}
        for root in base.iterdir() if base.is_dir() else ():
            match = number_of.fullmatch(root.name)
            if match is not None and RunFolder(root).ledger.is_file():
                runs[int(match[1] or 1)] = RunFolder(root)
        return runs[max(runs)] if runs else None

    @staticmethod
    def existing(root: Path) -> "RunFolder":
        """Return an earlier run's folder; raises RunError if `root` is none."""
        folder = RunFolder(root)
        if not folder.config.is_file():
            raise RunError(f"{root} is not a run folder (no config.toml in it); give a folder such as runs/NAME")
        return folder

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.root / "config.toml"

    @property
    def ledger(self) -> Path:
        """The durable state of the run."""
        return self.root / "ledger.sqlite"

    @property
    def blobs(self) -> Path:
        """Content-addressed payloads."""
        return self.root / "blobs"

    @property
    def globals(self) -> Path:
        """Durable copies of the last global adapters."""
        return self.root / "globals"

    @property
    def events(self) -> Path:
        """One line per event."""
        return self.root / "events.jsonl"

    @property
    def rounds(self) -> Path:
        """One row per round and device."""
        return self.root / "rounds.csv"

    @property
    def summary(self) -> Path:
        """Final figures."""
        return self.root / "summary.json"

    @property
    def adapter(self) -> Path:
        """The global adapter, loadable by peft."""
        return self.root / "global"

    @property
    def exports(self) -> Path:
        """One pruned and merged model per device class."""
        return self.root / "exports"

    @property
    def certificates(self) -> Path:
        """TLS material of a local fleet."""
        return self.root / "certs"

    @property
    def endpoint(self) -> Path:
        """Where the coordinator listens, while it runs."""
        return self.root / "coordinator.json"

    @property
    def logs(self) -> Path:
        """Output of a local fleet's processes."""
        return self.root / "logs"

    @property
    def data(self) -> Path:
        """Rows that a program handed over in memory."""
        return self.root / "data"

    @property
    def devices(self) -> Path:
        """State folders of a local fleet's devices."""
        return self.root / "devices"

    @property
    def edges(self) -> Path:
        """State folders of a local fleet's edges."""
        return self.root / "edges"


def read_settings(folder: RunFolder) -> Config:
    """Return a run's configuration; raises RunError if its file cannot be read, ConfigError if it is malformed."""
    with Boundary(RunError, f"cannot read {folder.config}", remedy="restore it from a copy"):
        return parse_config(folder.config.read_text(encoding="utf-8"))

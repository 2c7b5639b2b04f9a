"""A run is a folder: the paths inside it, and the name of a new one."""

import contextlib
import itertools
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedcore.core.boundary import Boundary
from fedcore.core.config.tables import Config
from fedcore.core.config.toml import parse_config, read_toml
from fedcore.core.errors import RunError

BEFORE = {("strategy", "spare_time"): "wait"}  # of runs that began before the key existed, where the default is another


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths inside one run's folder.

    `made`: the folders that this process made for the run, innermost first; None where the run was here before.
    """

    root: Path
    made: tuple[Path, ...] | None = field(default=None, compare=False, repr=False)

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
            made = _missing(chosen)
            chosen.mkdir(parents=True, exist_ok=True)
            return RunFolder(chosen, made)
        made = _missing(base)
        base.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            root = base / (name if number == 1 else f"{name}-{number}")
            try:
                root.mkdir()
                return RunFolder(root, (root, *made))
            except FileExistsError:
                number += 1

    @property
    def has_begun(self) -> bool:
        """Whether the run has an event: until then nothing ran, and there is nothing to resume."""
        try:
            return self.events.stat().st_size > 0
        except OSError:
            return False

    @contextlib.contextmanager
    def withdrawn_unless_begun(self) -> Iterator[None]:
        """Where the block fails before the run's first event, take away what the run made: its files, then its folders.

        A folder that was here before stays, empty as it was; that of an earlier run is never touched.
        """
        try:
            yield
        except BaseException:
            if self.made is not None and not self.has_begun:
                self._withdraw(self.made)
            raise

    def _withdraw(self, made: Sequence[Path]) -> None:
        with contextlib.suppress(OSError):  # what failed before is what the user has to hear of
            for entry in self.root.iterdir():
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
            for folder in made:
                folder.rmdir()  # ends at one that is not empty: it has another run in it

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


def _missing(folder: Path) -> tuple[Path, ...]:
    """Those of a folder and the folders around it that do not exist, innermost first."""
    return tuple(itertools.takewhile(lambda place: not place.exists(), (folder, *folder.parents)))


def read_settings(folder: RunFolder) -> Config:
    """Return a run's configuration; raises RunError if its file cannot be read, ConfigError if it is malformed."""
    with Boundary(RunError, f"cannot read {folder.config}", remedy="restore it from a copy"):
        return stored_config(folder.config.read_text(encoding="utf-8"))


def stored_config(text: str) -> Config:
    """Return the configuration that a run stored; what it says nothing of is as it was before the key existed.

    Raises as `parse_config`.
    """
    config, written = parse_config(text), read_toml(text)
    absent = [f"{table}.{key}={value}" for (table, key), value in BEFORE.items() if key not in written.get(table, {})]
    return parse_config(text, absent) if absent else config

"""What a run begins with, whichever way it is run: its configuration and its folder."""

from os import PathLike
from pathlib import Path

from fedcore.api.configuration import Overrides, Source, load_config
from fedcore.core.config.tables import Config
from fedcore.core.errors import ConfigError, RunError
from fedcore.server.run.run_folder import RunFolder

RUNS = Path("runs")


def run_config(source: Source, overrides: Overrides | None, *, strategy: str | None, rounds: int | None) -> Config:
    """Return the configuration with its overrides; `strategy` and `rounds` are short for strategy.name and run.rounds.

    Raises ConfigError as `load_config`.
    """
    if strategy is not None and not isinstance(strategy, str):
        raise ConfigError(f"strategy: expected a name in quotes, got {type(strategy).__name__}")
    short = {"strategy.name": strategy, "run.rounds": rounds}
    named = {key: value for key, value in short.items() if value is not None}
    return load_config(load_config(source, overrides), named)


def new_folder(config: Config, run_dir: str | PathLike[str] | None) -> RunFolder:
    """Make the folder of a new run: `run_dir`, or runs/NAME.

    Raises RunError where it exists and is not empty, or cannot be made.
    """
    try:
        return RunFolder.create(config.run.name, base=RUNS, chosen=None if run_dir is None else Path(run_dir))
    except OSError as cause:
        raise RunError(f"{cause.filename}: {cause.strerror}; name a folder with run_dir=") from None

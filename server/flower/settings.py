"""An app's run configuration as ours: the keys of `[tool.flwr.app.config]` are those of a configuration file.

Flower allows numbers, booleans and strings there; a list is written as a string: `strategy.ranks = "[4, 8]"`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fedcore.core.config.tables import Config
from fedcore.core.config.toml import parse_config
from fedcore.protos.records import overrides


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """The configuration of a run, and its folder: a new one, or one to resume."""

    config: Config
    run_dir: str = ""
    resume: str = ""


def run_settings(shared: Mapping[str, bool | int | float | str]) -> RunSettings:
    """Return the settings in an app's run configuration; raises ConfigError, naming the key, for a wrong value."""
    return RunSettings(
        config=parse_config("", overrides(shared)),
        run_dir=str(shared.get("run-dir", "")),
        resume=str(shared.get("resume", "")),
    )

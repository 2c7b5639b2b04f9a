"""An app's run configuration as ours: keys of `[tool.flwr.app.config]` are the keys of a configuration file.

Flower knows numbers, truth values and words there; a list is written as a word: `strategy.ranks = "[4, 8]"`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fedcore.core.config.tables import Config
from fedcore.core.config.toml import parse_config
from fedcore.protos.records import overrides


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """The run, and where its folder shall be or is."""

    config: Config
    run_dir: str = ""
    resume: str = ""


def run_settings(shared: Mapping[str, bool | int | float | str]) -> RunSettings:
    """Return what an app's run configuration says; raises ConfigError, naming the key, for what does not fit."""
    return RunSettings(
        config=parse_config("", overrides(shared)),
        run_dir=str(shared.get("run-dir", "")),
        resume=str(shared.get("resume", "")),
    )

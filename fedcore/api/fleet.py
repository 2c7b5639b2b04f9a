"""fedcore.fleet: a whole fleet of processes on this machine, from a configuration to its run folder."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from os import PathLike
from typing import Any

from fedcore.api.configuration import Overrides, Source
from fedcore.api.data import run_data
from fedcore.api.new_run import new_folder, run_config
from fedcore.api.plugins import load_plugins, with_own_modules
from fedcore.api.run import Run
from fedcore.core.config.toml import to_toml
from fedcore.local_fleet.preflight import checked, try_model
from fedcore.local_fleet.progress import RunProgress
from fedcore.local_fleet.run import FleetOptions, run_fleet
from fedcore.local_fleet.view import View, open_view
from fedcore.storage.atomic import write_atomic
from fedcore.storage.process.quiet import silence_telemetry, wait_passively


class Silent:
    """A view that shows nothing."""

    def show(self, progress: RunProgress) -> None:
        """Show nothing."""


def fleet(
    config: Source,
    *,
    train: Any = None,
    test: Any = None,
    run_dir: str | PathLike[str] | None = None,
    strategy: str | None = None,
    rounds: int | None = None,
    overrides: Overrides | None = None,
    plugins: str | Sequence[str] = (),
    reference: bool = False,
    progress: bool = False,
) -> Run:
    """Run coordinator, devices and evaluator as processes on this machine, talking mutual TLS; return the finished run.

    All but `plugins` are arguments of `fedcore.simulate`. `plugins` are modules, by name or .py file, that
    register strategies, aggregators or bandits of one's own: the processes import them too. A module that this program
    has imported and whose entries the configuration names is found without being listed. `reference` also trains
    centralised LoRA on all rows, to compare. With `progress`, the fleet is shown live.

    Blocks until the end; an interrupt stops every process. Raises ConfigError, DataError, ModelError or JoinRefused
    before a process is started, RunError where the run stops.
    """
    silence_telemetry()
    wait_passively()
    found = load_plugins(plugins)
    settings = run_config(config, overrides, strategy=strategy, rounds=rounds)
    data = run_data(settings, train=train, test=test)
    with data.readable(settings) as readable:
        ready = checked(readable)
    folder = new_folder(settings, run_dir)
    with folder.withdrawn_unless_begun():
        accelerators = try_model(ready)
        ready = data.write(ready, folder.data)
        write_atomic(folder.config, to_toml(ready).encode())
        options = FleetOptions(reference=reference, accelerators=accelerators, plugins=with_own_modules(ready, found))
        with _view(progress) as view:
            run_fleet(folder, ready, options, view)
    return Run(folder.root)


def _view(progress: bool) -> "AbstractContextManager[View]":
    if not progress:
        return nullcontext(Silent())
    from rich.console import Console

    return open_view(Console(), plain=False)

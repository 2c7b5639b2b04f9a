"""fedcore.simulate: a simulation in this process, from a configuration to its run folder."""

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from os import PathLike
from typing import Any

from fedcore.api.configuration import Overrides, Source
from fedcore.api.data import run_data
from fedcore.api.new_run import new_folder, run_config
from fedcore.api.run import Run
from fedcore.core.accelerators import AUTO
from fedcore.core.errors import RunError
from fedcore.local_fleet.client_extra import require_client
from fedcore.server.run.run import Run as OpenRun
from fedcore.server.run.run_log import Observer
from fedcore.simulation.progress import RoundLines
from fedcore.simulation.run import simulate as run_simulation
from fedcore.simulation.setup import check_reference, read_setup
from fedcore.storage.process.quiet import silence_telemetry, wait_passively


def simulate(
    config: Source,
    *,
    train: Any = None,
    test: Any = None,
    run_dir: str | PathLike[str] | None = None,
    strategy: str | None = None,
    rounds: int | None = None,
    overrides: Overrides | None = None,
    reference: bool = False,
    device: str = AUTO,
    progress: bool = False,
) -> Run:
    """Simulate a fleet of virtual devices on a virtual clock, and return the finished run.

    `config` is a TOML file, a `Config` or a dict of tables; `overrides` maps "table.key" to a value, and `strategy` and
    `rounds` are short for two of them. `train` and `test` are paths or tables in memory (a list of dicts, a dict of
    columns, (texts, labels), a `datasets.Dataset`, a pandas frame); None leaves what the configuration says.
    The run's folder is `run_dir`, which must be new, or runs/NAME. `reference` also trains centralised LoRA on all
    rows, to compare. The model trains on `device`: "cpu", "cuda", "cuda:1", "mps", "xpu", or "auto", an accelerator if
    there is one. With `progress`, a line per round is printed.

    Blocks until the end. With `simulation.workers`, or from 32 devices a round, processes train: a script then needs
    `if __name__ == "__main__":` around the call, as with every program that starts processes.
    Raises ConfigError, DataError, ModelError or JoinRefused before a folder is made, RunError where the run stops.
    """
    silence_telemetry()
    wait_passively()
    require_client("fedcore.simulate")
    _refuse_in_workers()
    settings = run_config(config, overrides, strategy=strategy, rounds=rounds)
    data = run_data(settings, train=train, test=test)
    with data.readable(settings) as readable:
        setup = read_setup(readable, device=device)
    check_reference(setup, reference)
    folder = new_folder(settings, run_dir)
    observers: Sequence[Observer] = ()
    if progress:
        print(f"run folder: {folder.root}")  # noqa: T201
        observers = [RoundLines(say=print, total_rounds=setup.config.run.rounds, now_s=time.monotonic)]
    with folder.withdrawn_unless_begun(), _same_threads() if setup.training is not None else nullcontext():
        setup = replace(setup, config=data.write(setup.config, folder.data))
        run_simulation(setup, OpenRun.create(folder, setup.config, setup.model), observers, reference=reference)
    return Run(folder.root)


@contextmanager
def _same_threads() -> Iterator[None]:
    """Leave the caller's torch as it was: training may take one thread, and measuring takes every core."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _refuse_in_workers() -> None:
    """Refuse where a process that trains imports the very script that started it."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing itself asks
        raise RunError(
            'put the call of fedcore.simulate under `if __name__ == "__main__":`: processes import the script'
        )

"""A ServerApp that runs one configuration: `app = server_app()`."""

from collections.abc import Callable
from pathlib import Path

from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp

from fedcore.config import Config
from server.flower.run import FlowerRun
from server.flower.settings import run_settings
from server.flower.strategy import FedcoreStrategy
from server.preflight import check_run
from server.run_folder import RunFolder
from server.serve import new_run, reopen_run
from storage.model_source import model_folder

Measure = Callable[[int, ArrayRecord], MetricRecord | None]


def server_app(config: Config | None = None, evaluate: Measure | None = None) -> ServerApp:
    """Return the app of a run; without `config` it is read from the app's run configuration.

    There, `run-dir` names the run folder (default runs/NAME), `resume` the folder of a run to go on with.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        run = open_run(config, context)
        try:
            FedcoreStrategy(run).start(grid, evaluate_fn=evaluate)
        finally:
            run.close()

    return app


def open_run(config: Config | None, context: Context) -> FlowerRun:
    """Begin a run, or go on with one; raises RunError where its folder cannot be used."""
    settings = run_settings(context.run_config)
    resolved = config or settings.config
    if settings.resume:
        folder = RunFolder.existing(Path(settings.resume))
        model = model_folder(resolved.model.path)
        ledger, resolved = reopen_run(folder, model)
        return FlowerRun.open(folder, resolved, ledger, model)
    model = model_folder(resolved.model.path)
    check_run(resolved, model)
    chosen = Path(settings.run_dir) if settings.run_dir else None
    folder = RunFolder.create(resolved.run.name, base=Path("runs"), chosen=chosen)
    return FlowerRun.open(folder, resolved, new_run(folder, resolved, model), model)

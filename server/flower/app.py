"""A ServerApp that runs one configuration: `app = server_app()`."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp

from fedcore.core.config.tables import Config
from fedcore.core.data.figures import Metrics
from fedcore.core.model.adapter import Tensors
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.tasks.table import task_of
from fedcore.protos.values import RunDescription, Welcome
from fedcore.server.flower.round_driver import FlowerDriver
from fedcore.server.flower.settings import run_settings
from fedcore.server.flower.strategy import FedcoreStrategy
from fedcore.server.run.preflight import check_agreed, check_run
from fedcore.server.run.run import Run
from fedcore.server.run.run_folder import RunFolder
from fedcore.storage.models.model_source import model_folder

Measure = Callable[[RunDescription, Welcome, Tensors, int, KeepSet | None], Metrics]


def server_app(config: Config | None = None, measuring: Callable[[Context], Measure] | None = None) -> ServerApp:
    """Return the app of a run; without `config`, the app's run configuration holds the settings.

    There, `run-dir` names the run folder (default runs/NAME), `resume` the folder of a run to go on with. `measuring`
    returns a function that measures the adapter after every round, such as `fedcore.client.flower.measure.held_back`,
    which needs torch: on the dense model until a device has trained a pruned one, then on the classes' models by turns;
    at the end, on all of them.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        driver = open_run(config, context)
        with driver.run.folder.withdrawn_unless_begun(), closing(driver):
            evaluate = None if measuring is None else _evaluation(driver, measuring(context))
            FedcoreStrategy(driver).start(grid, evaluate_fn=evaluate)

    return app


def open_run(config: Config | None, context: Context) -> FlowerDriver:
    """Begin a run, or go on with one; raises RunError if its folder is unusable."""
    settings = run_settings(context.run_config)
    resolved = config or settings.config
    if settings.resume:
        folder = RunFolder.existing(Path(settings.resume))
        model = model_folder(resolved.model.path)
        return FlowerDriver.open(Run.resume(folder, model))
    model = model_folder(resolved.model.path)
    check_run(resolved, model)
    check_agreed(resolved)
    chosen = Path(settings.run_dir) if settings.run_dir else None
    folder = RunFolder.create(resolved.run.name, base=Path("runs"), chosen=chosen)
    with folder.withdrawn_unless_begun():
        return FlowerDriver.open(Run.create(folder, resolved, model))


def _evaluation(driver: FlowerDriver, measure: Measure) -> Callable[[int, ArrayRecord], MetricRecord]:
    def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord:
        tensors, task = {name: array.numpy() for name, array in arrays.items()}, task_of(driver.run.config)
        measured: dict[str, int | float | list[int] | list[float]] = {}
        for kind in driver.evaluations():
            metrics = measure(driver.description, driver.welcome(), tensors, kind.rows, driver.keep_set(kind))
            driver.log_metrics(kind, metrics)
            of_class = f"{kind.device_class}-" if kind.device_class else ""
            for name, value in task.complete(metrics).figures.items():
                if value is not None:
                    measured[of_class + name.replace("_", "-")] = value
        return MetricRecord(measured)

    return evaluate

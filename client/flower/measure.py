"""Measuring a run's models inside its ServerApp, on held-back rows: what an evaluator does elsewhere."""

from collections.abc import Callable
from logging import WARNING

from flwr.app import Context
from flwr.supercore import log

from fedcore.client.data.rows import Rows
from fedcore.client.data.shards import test_rows
from fedcore.client.evaluation.answer_libraries import left_out
from fedcore.client.evaluation.model_evaluator import ModelEvaluator
from fedcore.client.options import DataOptions
from fedcore.client.training.trainer import ModelSource
from fedcore.core.accelerators import AUTO
from fedcore.core.config.toml import parse_config
from fedcore.core.data.figures import Metrics
from fedcore.core.model.adapter import Tensors
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.tasks.options import TaskOptions, options_of
from fedcore.core.tasks.table import task_named, task_of
from fedcore.nn.accelerator.present import device_for
from fedcore.protos.records import overrides
from fedcore.protos.values import RunDescription, Welcome
from fedcore.storage.models.model_source import model_folder

Measure = Callable[[RunDescription, Welcome, Tensors, int, KeepSet | None], Metrics]


def held_back(context: Context) -> Measure:
    """Return a function that measures an adapter on so many test rows (0: all) of the app's data.

    It measures the model that keeps a keep-set, or the dense one (None).

    Model and rows are read once.

    Raises DataError where no row is held back.
    """
    config = parse_config("", overrides(context.run_config))
    data = DataOptions(
        train=config.data.train,
        test=config.data.test or None,
        text=config.data.text_columns,
        label=config.data.label,
        test_fraction=config.data.test_fraction,
        task=config.task.kind,
    )
    rows, model = test_rows(data), model_folder(config.model.path)
    for line in left_out(task_of(config), options_of(config.task)):
        log(WARNING, line)

    def measure(
        description: RunDescription, welcome: Welcome, adapter: Tensors, count: int, keep_set: KeepSet | None = None
    ) -> Metrics:
        source = ModelSource(
            folder=model,
            labels=welcome.labels,
            head=description.head,
            dtype=description.dtype,
            max_length=description.max_length,
            targets=welcome.targets,
            task=task_named(description.task),
            options=TaskOptions.read(description.task_options),
            device=device_for(AUTO),
        )
        evaluator = ModelEvaluator(source=source, test=rows, train=Rows(texts=(), labels=()))
        # Asked for all rows (0), the evaluator takes all cores; nodes may be simulated on them.
        return evaluator.evaluate(adapter, count or len(rows), config.training.lora_scale, keep_set)

    return measure

"""A device's trial of learning rates: from one adapter, a few steps at each rate on the same rows, then the loss."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from fedcore.core.contract.assignment import TrainingSpec
from fedcore.core.contract.rate_trial import DIVERGED, PROBE_BATCHES, RateTrial
from fedcore.core.data.label_prior import LabelPlan
from fedcore.core.seeds import generator
from fedcore.nn.accelerator.pace import Pace, paced
from fedcore.nn.model.checkpointing import checkpointed
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.frozen import training_only
from fedcore.nn.model.lora import load_adapter
from fedcore.nn.training.batches import Batch, EncodedRows, collate, epoch_batches
from fedcore.nn.training.evaluate import forward_logits
from fedcore.nn.training.objective import Objective, objective_of
from fedcore.nn.training.optimizer import make_optimizer
from fedcore.nn.training.train import TrainingDiverged, training_step


def trial_losses(
    classifier: Classifier,
    rows: EncodedRows,
    before: Mapping[str, NDArray[np.float32]],
    *,
    spec: TrainingSpec,
    trial: RateTrial,
    seed: int,
    labels: LabelPlan,
    pace: Pace | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> tuple[float, ...]:
    """Return the loss of the adapter `before`, and after `trial.steps` steps from it at each of the trial's rates.

    Losses are means of the task's over PROBE_BATCHES batches that follow those of the steps, drawn as batches
    are; rows repeat where the device holds too few. DIVERGED for a rate at which training diverges. `before` is loaded
    in the classifier afterwards. `on_step` is called after every step as one before the first of training: (0, loss).
    """
    stream = epoch_batches(rows, spec.batch_size, generator(seed, "trial"), labels.draws)
    batches = [collate(rows, next(stream)) for _ in range(trial.steps)]
    probes = [collate(rows, next(stream)) for _ in range(PROBE_BATCHES)]
    objective = objective_of(classifier, labels)
    classifier.model.eval()
    with paced(pace):
        losses = [_loss(classifier, probes, objective)]
    for rate in trial.rates:
        with training_only(classifier, spec.trains) as parameters, checkpointed(classifier, spec.checkpointing):
            optimizer = make_optimizer(parameters, learning_rate=rate, weight_decay=spec.weight_decay)
            try:
                for batch in batches:
                    with paced(pace):
                        loss = training_step(classifier, optimizer, batch, objective=objective)
                    if on_step is not None:
                        on_step(0, loss)
                with paced(pace):
                    losses.append(_loss(classifier, probes, objective))
            except TrainingDiverged:
                losses.append(DIVERGED)
        load_adapter(classifier, before)
    return tuple(losses)


def _loss(classifier: Classifier, batches: list[Batch], objective: Objective) -> float:
    total = 0.0
    with torch.no_grad():
        for batch in batches:
            logits = forward_logits(classifier, batch)
            total += float(objective(logits, batch["labels"].to(logits.device))) * len(batch["labels"])
    mean = total / sum(len(batch["labels"]) for batch in batches)
    return mean if mean < DIVERGED else DIVERGED  # NaN too

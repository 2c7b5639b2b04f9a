"""A model that is cut at once and trained on nothing, by scores of a few rows of the task."""

import numpy as np

from benchmarks.depth.cuts import cut_at, first_order, learned, scored
from benchmarks.pruned_lm.cells import Cell
from fedcore.client.data.rows import Rows
from fedcore.client.training.trainer import ModelSource
from fedcore.core.seeds import generator
from fedcore.nn.criteria.table import Beginning, make_scorer
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.lora import attach
from fedcore.nn.model.surgery import shrink
from fedcore.nn.training.batches import collate

RANK, BATCHES = 8, 4


def cut_at_once(source: ModelSource, training: Rows, cell: Cell) -> Classifier:
    """Return the base model, cut as the cell says by the means of the scores of BATCHES batches of training rows."""
    classifier = source.load()
    if not cell.sparsity:
        return classifier
    rng, size = generator(cell.seed, "calibration"), cell.config.training.batch_size
    rows = source.encode(training.select(np.sort(rng.choice(len(training), BATCHES * size, replace=False))))
    batches = [collate(rows, np.arange(start, start + size)) for start in range(0, len(rows), size)]
    attach(classifier, rank=RANK, scale=cell.config.training.lora_scale, targets=source.targets)  # adds nothing yet
    scorer = make_scorer(cell.criterion, Beginning(geometry=classifier.geometry, seed=cell.seed))
    scores = scored(classifier, batches, scorer.scores)
    order = learned(first_order(classifier, cell.way), classifier, scores)
    shrink(classifier, cut_at(order, classifier, cell.sparsity)[1])
    return classifier

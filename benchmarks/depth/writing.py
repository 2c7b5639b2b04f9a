"""SmolLM2 on product reviews as plain text: perplexity of a causal model, dense as it comes, and of its cut copies."""

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from transformers import AutoModelForCausalLM

from benchmarks.depth.cuts import scored
from fedcore.client.data.shards import test_rows, training_rows
from fedcore.client.options import DataOptions
from fedcore.core.contract.distillation import Distillation
from fedcore.core.contract.outcome import GroupScores
from fedcore.core.model.geometry import geometry_from_config
from fedcore.core.model.head import HeadSpec
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.seeds import generator
from fedcore.nn.criteria.taylor import TaylorScorer
from fedcore.nn.losses.cross_entropy import divergences
from fedcore.nn.losses.loss import Lesson, Loss
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.load import load_tokenizer
from fedcore.nn.model.lora import attach, trainable_parameters
from fedcore.nn.model.model_folder import read_config
from fedcore.nn.training.batches import Batch
from fedcore.nn.training.evaluate import forward_logits
from fedcore.nn.training.objective import Objective
from fedcore.nn.training.optimizer import make_optimizer
from fedcore.nn.training.train import training_step
from fedcore.storage.models.model_source import model_folder

RANK, BATCH, TOKENS, RATE, CALIBRATION = 8, 4, 64, 1e-3, 4

Blocks = NDArray[np.int64]  # (rows, TOKENS)


class Writer(Classifier):
    """A causal model with its vocabulary's output layer: no head of a task, and nothing but adapters trains."""

    def head_parameters(self) -> dict[str, nn.Parameter]:
        """Return nothing."""
        return {}


def _next_tokens(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def _each(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    losses = functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return losses.view(len(ids), -1).mean(dim=1)


NEXT_TOKEN = Loss(mean=_next_tokens, each=_each, divergence=divergences)


@dataclass(slots=True, kw_only=True)
class Writing:
    """`dense` is the model as it comes, with adapters that add nothing yet."""

    dense: Writer
    train: Blocks
    test: Blocks
    seed: int

    @staticmethod
    def of(*, seed: int, test_count: int, data: str = "fetch:amazon") -> "Writing":
        """Read the model and the rows (`fedcore fetch smollm2 amazon`)."""
        folder = model_folder("fetch:smollm2")
        config = read_config(folder)
        geometry = geometry_from_config(config)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager")
        model.eval()
        model.requires_grad_(False)
        dense = Writer(
            model=model,
            geometry=geometry,
            keep_set=KeepSet.full(geometry),
            head=HeadSpec(kind="last", shapes=()),
            labels=(),
            folder=folder,
        )
        attach(dense, rank=RANK, scale=2.0, targets=geometry.modules, seed=seed)
        options = DataOptions(train=data, test=None, text=("text",), label="label", test_fraction=0.1)
        tokenizer = load_tokenizer(folder)
        return Writing(
            dense=dense,
            train=_blocks(tokenizer, training_rows(options).texts, 4000),
            test=_blocks(tokenizer, test_rows(options).texts, test_count),
            seed=seed,
        )

    def fork(self) -> Classifier:
        """Return a copy of the dense model; it shares what cutting and training leave alone."""
        named = [*self.dense.model.named_parameters(), *self.dense.model.named_buffers()]
        return copy.deepcopy(self.dense, {id(tensor): tensor for name, tensor in named if ".lora_" not in name})

    def scores(self, classifier: Classifier) -> GroupScores:
        """Return Taylor scores and influences on the calibration rows."""
        rng, objective = generator(self.seed, "calibration"), Objective(NEXT_TOKEN)
        batches = [_batch(self.train[rng.choice(len(self.train), 8, replace=False)]) for _ in range(CALIBRATION)]
        return scored(classifier, batches, lambda model, batch: TaylorScorer().scores(model, batch, objective))

    def tune(self, classifier: Classifier, *, steps: int, part: int, how: Distillation | None) -> None:
        """Train the adapters alone."""
        rng, objective = generator(self.seed, "recovery", part), Objective(NEXT_TOKEN)
        optimizer = make_optimizer(trainable_parameters(classifier), learning_rate=RATE, weight_decay=0.0)
        for step in range(1, steps + 1):
            batch = _batch(self.train[rng.choice(len(self.train), BATCH, replace=False)])
            lesson = None
            if how is not None:
                with torch.no_grad():
                    lesson = Lesson(answers=forward_logits(self.dense, batch), how=how)
            training_step(classifier, optimizer, batch, step=step, objective=objective, lesson=lesson)

    def figures(self, classifier: Classifier) -> dict[str, float]:
        """Return the perplexity on held-back rows."""
        losses = []
        with torch.no_grad():
            for start in range(0, len(self.test), BATCH):
                batch = _batch(self.test[start : start + BATCH])
                losses += _each(forward_logits(classifier, batch), batch["labels"]).tolist()
        return {"perplexity": math.exp(sum(losses) / len(losses))}


def _blocks(tokenizer: Any, texts: Any, count: int) -> Blocks:
    """Return rows of TOKENS tokens, cut out of the texts one after the other."""
    ids: list[int] = []
    for text in texts:
        ids += [*tokenizer(" ".join(text), add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        if len(ids) >= count * TOKENS:
            break
    rows = len(ids) // TOKENS
    return np.array(ids[: rows * TOKENS], dtype=np.int64).reshape(rows, TOKENS)[:count]


def _batch(rows: Blocks) -> Batch:
    ids = torch.from_numpy(rows)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}

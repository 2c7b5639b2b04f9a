"""The task head: its kind for a base model, its tensors, and the source of their first values.

    mean   BERT type: masked mean over tokens -> L2-normalised x 10 -> linear   head.weight (C, hidden), head.bias (C,)
    last   Llama type: transformers' own classifier on the last token, no bias  head.weight (C, hidden)
    stock  BERT type: the classifier a checkpoint already has                   every tensor under `classifier.`
    none   Llama type: the model's own output layer, frozen, no part of the adapter

The module is pure, so that a coordinator without torch and a device with torch agree on names and shapes. Mean pooling
clearly beat the stock [CLS] head on short texts (.964 against .849 accuracy on Reuters R8), hence the default.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedcore.core.errors import ModelError
from fedcore.core.model.geometry import Geometry, geometry_from_config

HeadKind = Literal["mean", "last", "stock", "none"]

Array = NDArray[np.float32]
Shapes = Mapping[str, tuple[int, ...]]

_STOCK_PREFIX = "classifier."
_STOCK_ROWS = {True: "weight", False: "out_proj.weight"}  # whether it is BERT -> the tensor with one row per label


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSpec:
    """The head of one run: its kind, and (name with its "head." prefix, shape) sorted by name."""

    kind: HeadKind
    shapes: tuple[tuple[str, tuple[int, ...]], ...]


def resolve_head(config: Mapping[str, Any], kind: str, outputs: int, checkpoint_shapes: Shapes) -> HeadSpec:
    """Return the head of a base model.

    `config` is its `config.json`, `kind` one of auto, mean, last and stock, `outputs` the width that its task asks for,
    0 where it takes the model's own output layer,
    `checkpoint_shapes` maps tensor names of its checkpoint to shapes. "auto" is the checkpoint's own classifier where
    it has as many outputs, else mean (BERT type) or last (Llama type). Raises ModelError, with the remedy, where `kind`
    does not fit the model.
    """
    geometry = geometry_from_config(config)
    bert = geometry.family == "bert"
    if outputs == 0:
        return _none(geometry, kind)
    match kind:
        case "auto" if bert:
            return _own(geometry, config, outputs, checkpoint_shapes) or _mean(geometry, outputs)
        case "mean" if bert:
            return _mean(geometry, outputs)
        case "stock" if bert:
            return _stock(geometry, outputs, checkpoint_shapes)
        case "auto" | "last" if not bert:
            return HeadSpec(kind="last", shapes=(("head.weight", (outputs, geometry.hidden)),))
        case "mean" | "stock" | "last":
            fitting = "auto, mean or stock" if bert else "auto or last"
            raise ModelError(f"head {kind!r} does not fit a model of type {geometry.model_type!r}; use {fitting}")
    raise ModelError(f"unknown head {kind!r}; expected one of auto, mean, last, stock")


def checkpoint_head(kind: HeadKind, name: str) -> str | None:
    """Return the checkpoint tensor that holds the first value of `name` ("head...."), or None for a new head.

    A checkpoint may lack this tensor or have it for other labels: use it only if its shape is the head's.
    """
    suffix = name.removeprefix("head.")
    return {"mean": None, "last": f"score.{suffix}", "stock": f"{_STOCK_PREFIX}{suffix}", "none": None}[kind]


def checkpoint_rows(config: Mapping[str, Any], labels: Sequence[str]) -> tuple[int, ...]:
    """Return, for every label of the run, its row in the checkpoint's own classifier.

    The rows are matched by name where the checkpoint's `id2label` names the same labels, ignoring case; else row i is
    label i. This is for head tensors with the labels as first axis (`has_label_rows`).
    """
    identity = tuple(range(len(labels)))
    names = config.get("id2label")
    if not isinstance(names, Mapping) or len(names) != len(labels):
        return identity
    try:
        rows = {str(name).casefold(): int(row) for row, name in names.items()}
        matched = tuple(rows[label.casefold()] for label in labels)
    except (KeyError, ValueError):
        return identity
    return matched if tuple(sorted(matched)) == identity else identity


def has_label_rows(name: str) -> bool:
    """Whether the first axis of a head tensor ("head....") is the labels."""
    return name in ("head.weight", "head.bias", "head.out_proj.weight", "head.out_proj.bias")


def times(head: Mapping[str, Array], factor: float) -> dict[str, Array]:
    """Return the tensors of a head ("head....") that make its outputs, multiplied: so are its outputs then."""
    return {name: value * np.float32(factor) for name, value in head.items() if has_label_rows(name)}


def _none(geometry: Geometry, kind: str) -> HeadSpec:
    if geometry.family == "bert":
        raise ModelError(
            f"a model of type {geometry.model_type!r} reads and does not write; take a causal language model, such as "
            'fetch:smollm2, or task.kind = "classification"'
        )
    if kind != "auto":
        raise ModelError(f"head {kind!r}: a model that writes has its own output layer; leave model.head at auto")
    return HeadSpec(kind="none", shapes=())


def _mean(geometry: Geometry, outputs: int) -> HeadSpec:
    return HeadSpec(kind="mean", shapes=(("head.bias", (outputs,)), ("head.weight", (outputs, geometry.hidden))))


def _own(geometry: Geometry, config: Mapping[str, Any], outputs: int, shapes: Shapes) -> HeadSpec | None:
    """Return the stock head where the checkpoint is a finished classifier of as many outputs, else None."""
    is_classifier = any(str(name).endswith("ForSequenceClassification") for name in config.get("architectures") or ())
    rows = shapes.get(_STOCK_PREFIX + _STOCK_ROWS[geometry.model_type == "bert"])
    return _stock(geometry, outputs, shapes) if is_classifier and rows and rows[0] == outputs else None


def _stock(geometry: Geometry, outputs: int, shapes: Shapes) -> HeadSpec:
    expected = _stock_shapes(geometry, outputs)
    for name, shape in expected.items():
        stored = shapes.get(_STOCK_PREFIX + name)
        if stored is None:
            raise ModelError(
                f"head 'stock' needs a checkpoint that is a classifier, but it has no tensor {_STOCK_PREFIX + name};"
                " use head = 'mean'"
            )
        if tuple(stored) != shape:
            raise ModelError(
                f"head 'stock': the checkpoint's {_STOCK_PREFIX + name} has shape {tuple(stored)}, expected {shape} for"
                f" {outputs} outputs; use head = 'mean' or the checkpoint's own labels"
            )
    return HeadSpec(kind="stock", shapes=tuple(sorted((f"head.{name}", shape) for name, shape in expected.items())))


def _stock_shapes(geometry: Geometry, outputs: int) -> dict[str, tuple[int, ...]]:
    wide = geometry.hidden
    if geometry.model_type == "bert":
        return {"weight": (outputs, wide), "bias": (outputs,)}
    return {
        "dense.weight": (wide, wide),
        "dense.bias": (wide,),
        "out_proj.weight": (outputs, wide),
        "out_proj.bias": (outputs,),
    }

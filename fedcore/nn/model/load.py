"""Load a base model from a local folder as a classifier with frozen base weights.

Only safetensors, only local files, never code from the folder. Nothing is guessed: a checkpoint that does not fill
the model its config describes is refused, because transformers would fill the gaps with random weights.
"""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoModel

from fedcore.core.boundary import is_fault, reason
from fedcore.core.errors import ModelError
from fedcore.core.model.adapter import INITIAL_HEAD_STD
from fedcore.core.model.families import family_of
from fedcore.core.model.geometry import Geometry, geometry_from_config
from fedcore.core.model.head import HeadSpec, checkpoint_head, checkpoint_rows, has_label_rows, resolve_head
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.precision import BFLOAT16, FLOAT16, FLOAT32
from fedcore.core.tasks.classification import CLASSIFICATION
from fedcore.core.tasks.task import Task
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.config_keys import architecture, model_config, with_one_layer
from fedcore.nn.model.fused import part
from fedcore.nn.model.model_folder import (
    load_tokenizer,
    quiet,
    read_config,
    read_tensors,
    tensor_shapes,
    weight_files,
)
from fedcore.nn.model.modeling_fedcore import FedcoreBertConfig, FedcoreBertForSequenceClassification
from fedcore.nn.model.output_layer import put_output_layer

__all__ = ["DTYPES", "load_classifier", "load_tokenizer"]

# transformers replaces methods of its classes while it loads, and puts back what it found: of two loads at once one may
# put back the other's replacement, and no model of the process ties its weights again.
_ONE_LOAD = threading.Lock()

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_HELD = {BFLOAT16: "bfloat16", FLOAT16: "float32"}  # dtype of the base by precision, in place of the run's

_LAYERS = ("encoder.layer.", "layers.", "h.")
_BUFFERS = ("position_ids", "token_type_ids", "inv_freq")


def load_classifier(
    folder: Path,
    *,
    labels: Sequence[str],
    head: str = "auto",
    dtype: str = "float32",
    attention: str = "sdpa",
    trial: bool = False,
    task: Task = CLASSIFICATION,
    device: str = "cpu",
    precision: str = FLOAT32,
) -> Classifier:
    """Return the base model in `folder` with the head of `task` for `labels`, in evaluation mode.

    `head` is as in `fedcore.core.model.head`; `dtype` is that of the frozen base ("float32" or "bfloat16"), the head is
    float32 always; `attention` is an attention implementation of transformers. A head that the checkpoint has is taken
    over; a new one is small and random, the same on every call. A `trial` loads the first layer alone. The model is
    put on `device` and computes in `precision` (fedcore.core.precision): under bfloat16 the whole base is held in it,
    under float16 the linear layers, for the sums of the layers' outputs may exceed its range. Raises ModelError, with
    the remedy, for a folder, config or checkpoint that cannot be used.
    """
    if dtype not in DTYPES:
        raise ModelError(f"unknown dtype {dtype!r}; expected one of {', '.join(DTYPES)}")
    config = read_config(folder)
    config = with_one_layer(config) if trial else config
    geometry = geometry_from_config(config)
    files = weight_files(folder)
    spec = resolve_head(config, head, task.outputs(labels), tensor_shapes(files))
    pooler = {"add_pooling_layer": _needs_pooler(geometry, spec)} if geometry.family == "bert" else {}
    kernels = family_of(geometry.model_type).kernels
    kernel = attention if attention in kernels else kernels[0]
    backbone, report = _load_backbone(folder, config, dtype=held_dtype(dtype, precision), attention=kernel, **pooler)
    _check_complete(folder, report, whole=not trial)
    part(backbone, geometry)
    keys = task.config_keys(labels)
    if geometry.family == "bert":
        model = _bert_model(backbone, spec, keys)
    else:
        model = _causal_model(backbone, spec, folder, task, keys, files)
    classifier = Classifier(
        model=model,
        geometry=geometry,
        keep_set=KeepSet.full(geometry),
        head=spec,
        labels=tuple(labels),
        folder=folder,
        task=task,
        precision=precision,
    )
    if precision == FLOAT16:
        _halve(classifier)
    _start_head(classifier, files, checkpoint_rows(config, labels))
    classifier.model.requires_grad_(False)
    for parameter in classifier.head_parameters().values():
        parameter.requires_grad_(True)
    classifier.model.eval().to(device)
    return classifier


def held_dtype(dtype: str, precision: str) -> str:
    """Return the dtype in which a base of `dtype` is loaded for a precision; float16 is for its linear layers alone."""
    return _HELD.get(precision, dtype)


def _halve(classifier: Classifier) -> None:
    """Hold the prunable linear layers in float16; raises ModelError where a weight exceeds its range."""
    for layer in range(classifier.geometry.layers):
        for module in classifier.geometry.modules:
            linear = classifier.base_linear(layer, module).half()
            if not all(bool(torch.isfinite(value).all()) for value in linear.parameters()):
                raise ModelError(
                    f"{classifier.folder}: a weight of layer {layer}, {module}, exceeds float16's range of 65504; set "
                    'training.precision = "float32", or "bfloat16" where there is'
                )


def _needs_pooler(geometry: Geometry, spec: HeadSpec) -> bool:
    return spec.kind == "stock" and geometry.model_type == "bert"


def _load_backbone(
    folder: Path, config: dict[str, Any], *, dtype: str, attention: str, **pooler: bool
) -> tuple[nn.Module, Mapping[str, Any]]:
    try:
        with _ONE_LOAD, quiet():
            backbone, report = AutoModel.from_pretrained(
                folder,
                config=model_config(config),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                dtype=DTYPES[dtype],
                attn_implementation=attention,
                **pooler,
            )
    except BaseException as cause:
        if not is_fault(cause):
            raise
        raise ModelError(
            f"{folder}: the weights cannot be loaded with this config.json: {_words(cause)}; do they belong together?"
        ) from cause
    return backbone, report


def _words(cause: BaseException) -> str:
    """What went wrong; of a table of transformers that lacks a word of the config, a KeyError is all that is told."""
    return f"transformers knows nothing called {cause}" if isinstance(cause, KeyError) else reason(cause)


def _check_complete(folder: Path, report: Mapping[str, Any], *, whole: bool) -> None:
    """Refuse what transformers only reports: weights that were missing, misshapen, or, of a whole model, left out."""
    missing = sorted(name for name in report["missing_keys"] if not name.endswith(_BUFFERS))
    shapes = sorted(str(mismatch) for mismatch in report["mismatched_keys"])
    surplus = sorted(
        name
        for name in report["unexpected_keys"]
        if whole
        and any(part in f".{name}" for part in (f".{layer}" for layer in _LAYERS))
        and not name.endswith(_BUFFERS)
    )
    for what, names in (("has no", missing), ("has other shapes for", shapes), ("has more than the config:", surplus)):
        if names:
            raise ModelError(
                f"{folder}: the checkpoint {what} {names[0]} ({len(names)} in all); does config.json belong to it?"
            )


def _bert_model(backbone: nn.Module, spec: HeadSpec, keys: Mapping[str, Any]) -> nn.Module:
    original: Any = backbone.config
    described = architecture(original.to_dict())
    config = FedcoreBertConfig(backbone=described, head_kind=spec.kind, **keys)
    config._attn_implementation = original._attn_implementation
    with torch.device("meta"):  # only a frame: no second set of weights is allocated
        model = FedcoreBertForSequenceClassification(config)
    model.backbone = backbone
    model.classifier = model.classifier.to_empty(device="cpu").float()
    framed: nn.Module = model
    return framed


def _causal_model(
    backbone: nn.Module, spec: HeadSpec, folder: Path, task: Task, keys: Mapping[str, Any], files: Sequence[Path]
) -> nn.Module:
    config: Any = backbone.config
    config.use_cache = False  # a classifier never generates; a cache would hold keys and values for nothing
    for key, value in keys.items():
        setattr(config, key, value)
    with torch.device("meta"):
        auto_class: Any = getattr(transformers, task.model_class)
        model = auto_class.from_config(config, attn_implementation=config._attn_implementation)
    setattr(model, family_of(config.model_type).layout.backbone, backbone)
    model.config = config
    if spec.kind == "none":
        put_output_layer(model, files)
    else:
        model.score = model.score.to_empty(device="cpu").float()
        # the base may be bfloat16; a hook, and not a subclass, so that the layer stays a plain nn.Linear
        model.score.register_forward_pre_hook(_match_dtype)
    # the last token is found by this id, so it must be the one that batches are padded with
    config.pad_token_id = int(load_tokenizer(folder).pad_token_id)
    framed: nn.Module = model
    return framed


def _match_dtype(module: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (inputs[0].to(next(module.parameters()).dtype),)


def _start_head(classifier: Classifier, files: Sequence[Path], rows: tuple[int, ...]) -> None:
    """Fill the head: from the checkpoint where it has one of this shape, else small and random, the same always."""
    drawn = torch.Generator().manual_seed(0)
    sources = {name: checkpoint_head(classifier.head.kind, name) for name, _ in classifier.head.shapes}
    held = read_tensors(files, {source for source in sources.values() if source})
    with torch.no_grad():
        for name, parameter in classifier.head_parameters().items():
            found = held.get(sources[name] or "")
            if found is not None and found.shape == parameter.shape:
                parameter.copy_(found[list(rows)] if rows and has_label_rows(name) else found)
            elif parameter.ndim > 1:
                parameter.normal_(std=INITIAL_HEAD_STD, generator=drawn)
            else:
                parameter.zero_()

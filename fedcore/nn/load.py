"""Load a base model from a local folder as a classifier with frozen base weights.

Only safetensors, only local files, never code from the folder. Nothing is guessed: a checkpoint that does not fill
the model its config describes is refused, because transformers would fill the gaps with random weights.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as hf_logging

from fedcore.adapter import INITIAL_HEAD_STD
from fedcore.errors import ModelError
from fedcore.geometry import Geometry, geometry_from_config
from fedcore.head import HeadSpec, checkpoint_head, checkpoint_rows, has_label_rows, resolve_head
from fedcore.keep_set import KeepSet
from fedcore.nn.classifier import Classifier
from fedcore.nn.modeling_fedcore import FedcoreBertConfig, FedcoreBertForSequenceClassification, make_head

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

_INDEX = "model.safetensors.index.json"
_LAYERS = ("encoder.layer.", "layers.")
_BUFFERS = ("position_ids", "token_type_ids", "inv_freq")


def load_classifier(
    folder: Path,
    *,
    labels: Sequence[str],
    head: str = "auto",
    dtype: str = "float32",
    attention: str = "sdpa",
) -> Classifier:
    """Return the base model in `folder` with a task head for `labels`, in evaluation mode.

    `head` is as in `fedcore.head`; `dtype` is that of the frozen base ("float32" or "bfloat16"), the head is float32
    always; `attention` is an attention implementation of transformers. A head that the checkpoint has is taken over;
    a new one is small and random, the same on every call. Raises ModelError, with the remedy, for a folder, config
    or checkpoint that cannot be used.
    """
    if dtype not in DTYPES:
        raise ModelError(f"unknown dtype {dtype!r}; expected one of {', '.join(DTYPES)}")
    config = read_config(folder)
    geometry = geometry_from_config(config)
    files = weight_files(folder)
    spec = resolve_head(config, head, len(labels), tensor_shapes(files))
    backbone = _load_backbone(folder, geometry, pooler=_needs_pooler(geometry, spec), dtype=dtype, attention=attention)
    build = _bert_model if geometry.family == "bert" else _llama_model
    classifier = Classifier(
        model=build(backbone, spec, tuple(labels), folder),
        geometry=geometry,
        keep_set=KeepSet.full(geometry),
        head=spec,
        labels=tuple(labels),
        folder=folder,
    )
    _start_head(classifier, files, checkpoint_rows(config, labels))
    classifier.model.requires_grad_(False)
    for parameter in classifier.head_parameters().values():
        parameter.requires_grad_(True)
    classifier.model.eval()
    return classifier


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer in `folder` (transformers' PreTrainedTokenizerBase), always able to pad.

    A tokenizer without a padding token pads with its end-of-text token. Raises ModelError where it has neither, or
    where the files are missing or malformed.
    """
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as cause:  # the tokenizers library raises bare Exception for malformed files
        raise ModelError(f"{folder}: no usable tokenizer (expected tokenizer.json): {_first_line(cause)}") from None
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelError(f"{folder}: the tokenizer has neither a padding nor an end token; add one and save it")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def read_config(folder: Path) -> dict[str, Any]:
    """Return `config.json` of a model folder; raises ModelError where it is missing, malformed or quantized."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder; check [model] path")
    path = folder / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{path} is missing; expected a folder saved by transformers' save_pretrained") from None
    except (OSError, ValueError, RecursionError) as cause:
        raise ModelError(f"{path}: not readable as JSON: {cause}") from None
    if not isinstance(config, dict):
        raise ModelError(f"{path}: expected a JSON object, got {type(config).__name__}")
    if config.get("quantization_config"):
        raise ModelError(f"{path}: the weights are quantized; load them with transformers, dequantize, and save again")
    if config.get("position_embedding_type", "absolute") != "absolute":
        kind = config["position_embedding_type"]
        raise ModelError(f"{path}: position_embedding_type {kind!r} is not supported; expected 'absolute'")
    return config


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the safetensors files of a model folder; raises ModelError where there are none."""
    single, index = folder / "model.safetensors", folder / _INDEX
    if single.is_file():
        return (single,)
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as cause:
            raise ModelError(f"{index}: malformed shard index: {cause!r}") from None
        missing = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
        if missing:
            raise ModelError(f"{folder}: the shard index names {missing[0]!r}, which is not in the folder")
        return tuple(folder / name for name in names)
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise ModelError(
            f"{folder}: only pickled weights (.bin) found; convert them once with transformers: from_pretrained, then"
            " save_pretrained writes model.safetensors"
        )
    raise ModelError(f"{folder}: no weights found; expected model.safetensors")


def tensor_shapes(files: Sequence[Path]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor by name, without reading the tensors; raises ModelError on a broken file."""
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        with _opened(file) as tensors:
            shapes |= {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    return shapes


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from printing reports and progress bars while the block runs."""
    level, bar = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bar:
            hf_logging.enable_progress_bar()


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="pt") as tensors:
            yield tensors
    except (SafetensorError, OSError) as cause:
        raise ModelError(f"{file}: not a readable safetensors file: {_first_line(cause)}; fetch it again") from None


def _needs_pooler(geometry: Geometry, spec: HeadSpec) -> bool:
    return spec.kind == "stock" and geometry.model_type == "bert"


def _load_backbone(folder: Path, geometry: Geometry, *, pooler: bool, dtype: str, attention: str) -> nn.Module:
    extra = {"add_pooling_layer": pooler} if geometry.family == "bert" else {}
    try:
        with quiet():
            backbone, report = AutoModel.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                dtype=DTYPES[dtype],
                attn_implementation=attention,
                **extra,
            )
    except (RuntimeError, ValueError, KeyError, TypeError, OSError, SafetensorError, ImportError) as cause:
        raise ModelError(
            f"{folder}: the weights cannot be loaded with this config.json: {_first_line(cause)}; do they belong"
            " together?"
        ) from None
    _check_complete(folder, report)
    loaded: nn.Module = backbone
    return loaded


def _check_complete(folder: Path, report: Mapping[str, Any]) -> None:
    """Refuse what transformers only reports: weights that were missing, misshapen, or of layers left out."""
    missing = sorted(name for name in report["missing_keys"] if not name.endswith(_BUFFERS))
    shapes = sorted(str(each) for each in report["mismatched_keys"])
    surplus = sorted(
        name
        for name in report["unexpected_keys"]
        if any(part in f".{name}" for part in (f".{each}" for each in _LAYERS)) and not name.endswith(_BUFFERS)
    )
    for what, names in (("has no", missing), ("has other shapes for", shapes), ("has more than the config:", surplus)):
        if names:
            raise ModelError(
                f"{folder}: the checkpoint {what} {names[0]} ({len(names)} in all); does config.json belong to it?"
            )


def _bert_model(backbone: nn.Module, spec: HeadSpec, labels: tuple[str, ...], folder: Path) -> nn.Module:
    original: Any = backbone.config
    config = FedcoreBertConfig(backbone=original.to_dict(), head_kind=spec.kind, **_names(labels))
    config._attn_implementation = original._attn_implementation
    with torch.device("meta"):  # only a frame: no second set of weights is allocated
        model = FedcoreBertForSequenceClassification(config)
    model.backbone = backbone
    model.head = make_head(config, original.model_type, model.dropout.p)
    framed: nn.Module = model
    return framed


def _llama_model(backbone: nn.Module, spec: HeadSpec, labels: tuple[str, ...], folder: Path) -> nn.Module:
    config: Any = backbone.config
    for key, value in _names(labels).items():
        setattr(config, key, value)
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config, attn_implementation=config._attn_implementation)
    model.model = backbone
    model.config = config
    num_labels, hidden = dict(spec.shapes)["head.weight"]
    model.score = nn.Linear(hidden, num_labels, bias=False)
    # the base may be bfloat16; a hook, and not a subclass, so that the layer stays a plain nn.Linear
    model.score.register_forward_pre_hook(_match_dtype)
    # the last token is found by this id, so it must be the one that batches are padded with
    config.pad_token_id = int(load_tokenizer(folder).pad_token_id)
    if config.pad_token_id >= config.vocab_size:
        raise ModelError(
            f"{folder}: the tokenizer pads with id {config.pad_token_id}, the model knows {config.vocab_size} ids;"
            " do they belong together?"
        )
    framed: nn.Module = model
    return framed


def _match_dtype(module: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (inputs[0].to(next(module.parameters()).dtype),)


def _names(labels: tuple[str, ...]) -> dict[str, dict[Any, Any]]:
    return {"id2label": dict(enumerate(labels)), "label2id": {label: row for row, label in enumerate(labels)}}


def _start_head(classifier: Classifier, files: Sequence[Path], rows: tuple[int, ...]) -> None:
    """Fill the head: from the checkpoint where it has one of this shape, else small and random, the same always."""
    drawn = torch.Generator().manual_seed(0)
    held = _read(files, {checkpoint_head(classifier.head.kind, name) for name, _ in classifier.head.shapes})
    with torch.no_grad():
        for name, parameter in classifier.head_parameters().items():
            found = held.get(checkpoint_head(classifier.head.kind, name))
            if found is not None and found.shape == parameter.shape:
                parameter.copy_(found[list(rows)] if has_label_rows(name) else found)
            elif parameter.ndim > 1:
                parameter.normal_(std=INITIAL_HEAD_STD, generator=drawn)
            else:
                parameter.zero_()


def _read(files: Sequence[Path], names: set[str | None]) -> dict[str | None, torch.Tensor]:
    found: dict[str | None, torch.Tensor] = {}
    for file in files:
        with _opened(file) as tensors:
            found |= {name: tensors.get_tensor(name) for name in tensors.keys() if name in names}  # noqa: SIM118
    return found


def _first_line(cause: BaseException) -> str:
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0][:200]

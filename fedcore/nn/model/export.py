"""Write a classifier as a folder that plain transformers loads, adapters merged, pruned shapes kept.

Causal types become a plain config of their own family, shorter where layers are removed, with heads of zeros where it
does not take the count that is left. BERT types, whose config cannot say "fewer heads", travel with
`modeling_fedcore.py` and load with `trust_remote_code=True`. Weights are merged and saved in float32, whatever the
dtype of the base: rounding a merged weight to bfloat16 would lose most of a small update.

Beside model and tokenizer lie `keep_set.json` (what was kept, in coordinates of the dense model) and
`probe.safetensors` (inputs and the logits this run gave for them), so that anybody can check a copy.
"""

import copy
import itertools
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoConfig

from fedcore.core.errors import ModelError
from fedcore.core.model.families import family_of
from fedcore.core.model.geometry import Geometry
from fedcore.core.model.head import has_label_rows
from fedcore.core.model.module_paths import layout_of
from fedcore.nn.model import modeling_fedcore
from fedcore.nn.model.chat_template import AUTO, chat_form, write_generation_config
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.config_keys import architecture
from fedcore.nn.model.fused import fuse
from fedcore.nn.model.model_folder import load_tokenizer, quiet
from fedcore.nn.model.quantized import whole

MODELING_FILE = "modeling_fedcore.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What an export holds: parameters of the model, size in bytes and names of all files."""

    parameters: int
    size_bytes: int
    files: tuple[str, ...]


def export_classifier(
    classifier: Classifier,
    out: Path,
    tokenizer_folder: Path,
    probe: Mapping[str, torch.Tensor] | None = None,
    *,
    template: str = AUTO,
) -> ExportReport:
    """Write `classifier` to the folder `out`, replacing what is there, and leave the classifier as it is.

    `probe` holds model inputs (input_ids, attention_mask, ...; a few rows). A model that writes comes with the chat
    `template` (fedcore.nn.model.chat_template) and with what ends its answers. The folder appears under its name only
    once it is complete. Raises ModelError where it cannot be written or the tokenizer cannot be read.
    """
    partial = out.with_name(f".{out.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        state = merged_state(classifier)
        _write_model(classifier, state, partial)
        tokenizer = load_tokenizer(tokenizer_folder)
        if classifier.head.kind == "none":
            tokenizer.chat_template = chat_form(tokenizer, template).template or None
            write_generation_config(tokenizer, tokenizer_folder, partial)
        _write_tokenizer(tokenizer, partial, longest=_longest(classifier.backbone.config))
        (partial / "keep_set.json").write_bytes(classifier.keep_set.to_bytes())
        if probe is not None:
            _save(_answered(classifier, probe), partial / "probe.safetensors")
        _put_in_place(partial, out)
    except OSError as cause:
        raise ModelError(f"cannot write the export to {out}: {cause}; free space or choose another folder") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    files = sorted(file for file in out.iterdir() if file.is_file())
    return ExportReport(
        parameters=sum(tensor.numel() for tensor in state.values()),
        size_bytes=sum(file.stat().st_size for file in files),
        files=tuple(file.name for file in files),
    )


def merged_state(classifier: Classifier) -> dict[str, torch.Tensor]:
    """Return the model's tensors under the names of a model without adapters: float32, on the CPU, updates merged.

    Its answers are in the unit of the targets.
    """
    for layer, module in itertools.product(classifier.layers, classifier.geometry.modules):
        whole(classifier.base_linear(layer, module), "export")
    tied = _tied(classifier.model)
    state = {
        name.replace(".base_layer.", "."): tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in classifier.model.state_dict().items()
        if ".lora_" not in name and name not in tied
    }
    prefix = layout_of(classifier.geometry).backbone
    for layer in classifier.layers:
        for module in classifier.geometry.modules:
            name = f"{prefix}.{classifier.path(layer, module)}.weight"
            for delta in _deltas(classifier.linear(layer, module)):
                state[name] = state[name] + delta
    for name in _output_names(classifier):
        state[name] = state[name] * _unit(classifier)
    return state


def _tied(model: nn.Module) -> set[str]:
    """Return further names of parameters that have one already: a config with `tie_word_embeddings` says as much."""
    return {name for name, _ in model.named_parameters(remove_duplicate=False)} - dict(model.named_parameters()).keys()


def _output_names(classifier: Classifier) -> list[str]:
    """Return the names of the tensors that make the head's outputs."""
    prefix = "classifier" if classifier.geometry.family == "bert" else "score"
    return [name.replace("head", prefix, 1) for name in classifier.head_parameters() if has_label_rows(name)]


def _unit(classifier: Classifier) -> float:
    """Return what an output of 1 is in the unit of the targets, which an export answers in."""
    return 1.0 if classifier.task.range is None else classifier.task.range.unit


def _deltas(layer: Any) -> list[torch.Tensor]:
    """Return the weight increments of a LoRA layer's active adapters that are not in its base weight already."""
    if isinstance(layer, nn.Linear) or layer.merged or layer.disable_adapters:
        return []
    return [
        layer.get_delta_weight(name).detach().to("cpu", torch.float32)
        for name in layer.active_adapters
        if name in layer.lora_A
    ]


def _write_model(classifier: Classifier, state: dict[str, torch.Tensor], folder: Path) -> None:
    if classifier.geometry.family == "bert":
        config = _bert_config(classifier)
        source = Path(modeling_fedcore.__file__).read_bytes()
        (folder / MODELING_FILE).write_bytes(source)
    else:
        units = _loadable_units(classifier.geometry, classifier.keep_set.counts.heads)
        config = _plain_config(classifier, units)
        _pad_heads(classifier, state, units)
        fuse(state, classifier.geometry, classifier.keep_set.counts._replace(heads=units))
    config.architectures = [type(classifier.model).__name__]
    config.dtype = torch.float32
    config.save_pretrained(folder)
    _save(state, folder / "model.safetensors", format="pt")


def _save(tensors: dict[str, torch.Tensor], path: Path, **metadata: str) -> None:
    """Write a safetensors file with the mode that every new file has; safetensors lets the owner alone read its own."""
    path.touch()
    mode = path.stat().st_mode
    save_file(tensors, path, metadata=metadata or None)
    path.chmod(mode)


def _longest(config: Any) -> int:
    """Return the tokens that a model reads at most; a RoBERTa's positions count from its padding id + 1."""
    reserved = int(config.pad_token_id or 0) + 1 if "roberta" in config.model_type else 0
    return int(config.max_position_embeddings) - reserved


def _write_tokenizer(tokenizer: Any, folder: Path, *, longest: int) -> None:
    tokenizer.model_max_length = min(tokenizer.model_max_length, longest)  # without one, tokenizers never cut a text
    # How it was loaded here is nobody's business elsewhere, and code that it names does not come along.
    for key in ("is_local", "local_files_only", "auto_map"):
        tokenizer.init_kwargs.pop(key, None)
    with quiet():
        tokenizer.save_pretrained(folder)


def _bert_config(classifier: Classifier) -> Any:
    kept = classifier.keep_set.counts
    config: Any = copy.deepcopy(classifier.model.config)
    config.kept_heads = [kept.heads] * len(classifier.layers)
    config.ffn_sizes = [kept.channels] * len(classifier.layers)
    module = MODELING_FILE.removesuffix(".py")
    config.auto_map = {
        "AutoConfig": f"{module}.FedcoreBertConfig",
        "AutoModel": f"{module}.FedcoreBertModel",
        classifier.task.model_class: f"{module}.FedcoreBertForSequenceClassification",
    }
    return config


def _plain_config(classifier: Classifier, units: int) -> Any:
    geometry = classifier.geometry
    original: Any = classifier.model.config
    family = family_of(geometry.model_type)
    values = architecture(original.to_dict()) | {
        family.name("num_attention_heads"): units * geometry.queries_per_unit,
        family.name("intermediate_size"): classifier.keep_set.counts.channels,
    }
    if family.heads != "all":
        values |= {
            "num_key_value_heads": units * geometry.kv_per_unit or geometry.kv_heads,
            "head_dim": geometry.head_dim,
        }
    keys = classifier.task.config_keys(classifier.labels)
    of_this_run = {key: getattr(original, key) for key in (*keys, "use_cache")}
    return AutoConfig.for_model(**values, **of_this_run)


def _loadable_units(geometry: Geometry, kept: int) -> int:
    """Return the smallest number of head units >= `kept` that the family's config accepts.

    Some refuse a head count that does not divide the hidden size, although head_dim is given apart; some know
    head_dim by the head count alone. The dense count always fits.
    """
    heads = family_of(geometry.model_type).heads
    units = geometry.head_units if heads == "all" else kept
    while heads == "dividing" and geometry.hidden % (units * geometry.queries_per_unit):
        units += 1
    return min(units, geometry.head_units)


def _pad_heads(classifier: Classifier, state: dict[str, torch.Tensor], units: int) -> None:
    """Append all-zero heads, which add exactly nothing, until every layer has `units` head units."""
    geometry = classifier.geometry
    missing = units - classifier.keep_set.counts.heads
    for layer in classifier.layers if missing else ():
        for module in ("q", "k", "v", "o"):
            cut = geometry.cut(module)
            path = f"{layout_of(geometry).backbone}.{classifier.path(layer, module)}"
            for name in (f"{path}.weight", f"{path}.bias"):
                if cut is None or name not in state or (cut.side == "in" and name.endswith("bias")):
                    continue
                extra = missing * cut.width
                state[name] = nn.functional.pad(
                    state[name], (0, extra) if cut.side == "in" or state[name].ndim == 1 else (0, 0, 0, extra)
                )


def _answered(classifier: Classifier, probe: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the probe's inputs and the logits of the run's own model, its base in float32 as it is saved."""
    model = classifier.model
    was_training = model.training
    if any(parameter.dtype != torch.float32 for parameter in model.parameters()):
        model = copy.deepcopy(model).float()
    model.eval()
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            logits = model(**{name: tensor.to(device) for name, tensor in probe.items()}).logits
    finally:
        classifier.model.train(was_training)
    answered = dict(probe) | {"logits": logits * _unit(classifier)}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in answered.items()}


def _put_in_place(partial: Path, out: Path) -> None:
    """Rename the finished folder; a folder cannot be replaced in one step, so an old one is moved aside first."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)

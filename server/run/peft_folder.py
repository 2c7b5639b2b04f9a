"""The global adapter as a folder that peft reads, with a page that says what it is good for and how to apply it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fedcore.core.codec.container import Outline, opening
from fedcore.core.data.figures import Figure
from fedcore.core.model.adapter import AdapterSpec, Tensors
from fedcore.core.model.base_shift import SHIFT, shift_of
from fedcore.core.model.fused_adapter import Matrix, fused_factors, fused_shift
from fedcore.core.model.head import HeadKind
from fedcore.core.model.module_paths import layout_of, stored_in
from fedcore.storage.atomic import Buffer, write_atomic

MEAN_HEAD_SCALE = 10  # of the mean head's input, as in fedcore.nn.model.modeling_fedcore

_IMPORTS = """import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer
"""
_LOAD = """
tokenizer = AutoTokenizer.from_pretrained(BASE)
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
tokenizer.padding_side = "right"
backbone = AutoModel.from_pretrained(BASE, dtype=torch.{dtype})
"""
_SHIFT = """with torch.no_grad():  # what the run added to the base weights themselves
    for name, shift in load_file(f"{GLOBAL}/base_shift.safetensors").items():
        weight = backbone.get_parameter(name)
        weight.copy_(weight.float() + shift)
"""
_ADAPT = """model = PeftModel.from_pretrained(backbone, GLOBAL).eval()
head = load_file(f"{GLOBAL}/head.safetensors")


@torch.no_grad()
def logits(texts, *pairs):
    batch = tokenizer(texts, *pairs, padding=True, truncation=True, max_length=%d, return_tensors="pt")
    output = model(**{name: batch[name] for name in NAMES if name in batch})
    states = output.last_hidden_state.float()  # (rows, tokens, hidden)
"""
_LINEAR = """    return torch.nn.functional.linear(pooled, head["head.weight"], head.get("head.bias"))  # (rows, labels)
"""
_HEADS = {
    "mean": f"""    mask = batch["attention_mask"][..., None].float()
    pooled = (states * mask).sum(dim=1) / mask.sum(dim=1)
    pooled = torch.nn.functional.normalize(pooled, dim=-1) * {MEAN_HEAD_SCALE}
{_LINEAR}""",
    "last": f"""    words = batch["input_ids"] != tokenizer.pad_token_id
    last = (torch.arange(words.shape[1]) * words).argmax(dim=1)
    pooled = states[torch.arange(len(last)), last]
{_LINEAR}""",
    "pooler": f"""    pooled = output.pooler_output.float()
{_LINEAR}""",
    "dense": """    linear = torch.nn.functional.linear
    first = linear(states[:, 0], head["head.dense.weight"], head["head.dense.bias"]).tanh()
    return linear(first, head["head.out_proj.weight"], head["head.out_proj.bias"])  # (rows, labels)
""",
}
_WRITES = """import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
{places}
tokenizer = AutoTokenizer.from_pretrained(BASE)
model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.{dtype})
backbone = model.model
{shift}model = PeftModel.from_pretrained(model, GLOBAL).eval()


@torch.no_grad()
def answer(prompt):
    text = prompt
    if tokenizer.chat_template:
        turns = [{{"role": "user", "content": prompt}}]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    batch = tokenizer(text, return_tensors="pt", add_special_tokens=not tokenizer.chat_template)
    written = model.generate(**batch, max_new_tokens=64, do_sample=False)
    return tokenizer.decode(written[0, batch["input_ids"].shape[1] :], skip_special_tokens=True)


print(answer("a question"))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterCard:
    """What the page says of the run: its name, settings of its model, and what was measured on held-back rows."""

    run: str
    head: HeadKind
    labels: tuple[str, ...]
    max_length: int
    dtype: str
    pruned: bool  # whether any class's model is
    headline: Figure
    dense: float | None = None  # the headline figure of the adapter on the dense model, if measured
    classes: Mapping[str, float | None] = field(default_factory=dict)  # that of every class's model


def write_readme(folder: Path, spec: AdapterSpec, base_model: str, card: AdapterCard) -> None:
    """Write README.md into the folder of the adapter; its code applies adapter and head to the base model."""
    headline, title = card.headline, card.headline.title
    figures = [f"this adapter on the dense model {headline.text(card.dense)}"] if card.dense is not None else []
    figures += [f"the model of class {name} {headline.text(value)}" for name, value in sorted(card.classes.items())]
    measured = f"\n{title[0].upper()}{title[1:]} on held-back rows: {', '.join(figures)}.\n" if figures else ""
    shifted = (folder / "base_shift.safetensors").exists()
    code = _code(spec, base_model, card, folder, shifted=shifted)
    write_atomic(
        folder / "README.md",
        _PAGE.format(
            run=card.run,
            about=_about(card),
            measured=measured,
            files=_WRITING_FILES if card.head == "none" else _FILES,
            code=code,
        ).encode(),
    )


_PAGE = """# The global adapter of run {run}

{about}
{measured}
Good for:

- going on from what all devices learned together, with `peft` or in a run of your own;
- one more pruned model at any sparsity: `fedcore export RUN --sparsity 0.4 --out FOLDER` applies it as the run does;
- looking at the factors themselves.

{files}

```python
{code}```
"""

_FILES = """\
Files: `adapter_config.json` and `adapter_model.safetensors` (LoRA, for `peft`), `head.safetensors` (the task head,
which `peft` does not read), and `base_shift.safetensors` where the method adds to the base weights themselves. The
adapter alone gives no labels: this code applies all of them."""
_WRITING_FILES = """\
Files: `adapter_config.json` and `adapter_model.safetensors` (LoRA, for `peft`), and `base_shift.safetensors` where
the method adds to the base weights themselves. The model's own output layer is as it was. This code applies them:"""


def _about(card: AdapterCard) -> str:
    if not card.pruned and card.head == "none":
        return "The LoRA factors of the dense model, as the devices trained them together."
    if not card.pruned:
        return "The LoRA factors and the task head of the dense model, as the devices trained them together."
    return _UNDELIVERED


_UNDELIVERED = """The LoRA factors and the task head that the devices trained together, for the whole dense model.

**It is not what the run delivers.** Since the first cut the devices train pruned models, and nobody trains this adapter
on the dense one: there it may do worse than the pruned models do. Those are in `exports/CLASS/` beside this folder, or
come from `fedcore export RUN --class CLASS --out FOLDER`; use them to answer texts."""


def _code(spec: AdapterSpec, base_model: str, card: AdapterCard, folder: Path, *, shifted: bool) -> str:
    geometry = spec.geometry
    here = f"\nBASE = {base_model!r}\nGLOBAL = {str(folder.resolve())!r}\n"
    if card.head == "none":
        return _WRITES.format(places=here, dtype=card.dtype, shift=_SHIFT if shifted else "")
    head = card.head if card.head != "stock" else "pooler" if geometry.model_type == "bert" else "dense"
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if geometry.token_types > 1 else [])]
    places = here + (f"LABELS = {list(card.labels)!r}\n" if card.labels else "")
    places += f"NAMES = {names!r}  # of what the model is given\n"
    load = _LOAD.replace("{dtype}", card.dtype) + (_SHIFT if shifted else "")
    answer = (
        '[LABELS[row] for row in logits(["a text to label"]).argmax(dim=1)]' if card.labels else 'logits(["a text"])'
    )
    use = f"\n\nprint({answer})\n"
    return _IMPORTS + places + load + _ADAPT % card.max_length + _HEADS[head] + use


def write_peft_folder(
    folder: Path, spec: AdapterSpec, tensors: Tensors, base_model: str, *, writes: bool = False
) -> None:
    """Write adapter_config.json and adapter_model.safetensors for peft, and head.safetensors beside them.

    One that `writes` is an adapter of the whole language model and has no head. B includes the LoRA scale already, so
    alpha = r. An adapter cannot express an addition to the base weights: a base shift, if there is one, goes into
    base_shift.safetensors under the names of those weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fused = fused_factors(spec, tensors)
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if writes else "FEATURE_EXTRACTION",
        "base_model_name_or_path": base_model,
        "r": spec.rank,
        "lora_alpha": spec.rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
        "target_modules": sorted({stored_in(spec.geometry, layer, module).path for layer, module in spec.modules()}),
    }
    if fused:
        ranks = {path: len(a) for path, (a, _) in fused.items()}
        config |= {"rank_pattern": ranks, "alpha_pattern": ranks}
    if layout_of(spec.geometry).transposed:
        config["fan_in_fan_out"] = True
    write_atomic(folder / "adapter_config.json", json.dumps(config, indent=2).encode())
    base = f"base_model.model.{layout_of(spec.geometry).backbone}" if writes else "base_model.model"
    write_atomic(folder / "adapter_model.safetensors", _for_torch(_factors(spec, tensors, fused, base)))
    if not writes:
        write_atomic(folder / "head.safetensors", _for_torch({name: tensors[name] for name, _ in spec.head}))
    if shift_of(tensors):
        write_atomic(folder / "base_shift.safetensors", _for_torch(_shift(spec, tensors)))


def _factors(
    spec: AdapterSpec, tensors: Tensors, fused: Mapping[str, tuple[Matrix, Matrix]], base: str
) -> dict[str, Matrix]:
    """Return the factors under peft's names; `base` is what peft calls the backbone."""
    pairs = {
        place.path: (tensors[f"layers.{layer}.{module}.A"], tensors[f"layers.{layer}.{module}.B"])
        for layer, module in spec.modules()
        if (place := stored_in(spec.geometry, layer, module)).rows is None
    }
    return {
        f"{base}.{path}.lora_{factor}.weight": tensor
        for path, pair in (pairs | dict(fused)).items()
        for factor, tensor in zip("AB", pair, strict=True)
    }


def _shift(spec: AdapterSpec, tensors: Tensors) -> dict[str, Matrix]:
    """Return what is added to the weights, under their names in the checkpoint."""
    places = {
        f"layers.{layer}.{module}{SHIFT}": stored_in(spec.geometry, layer, module) for layer, module in spec.modules()
    }
    shifts = {place.path: tensors[name] for name, place in places.items() if place.rows is None}
    shifts |= fused_shift(spec, tensors)
    transposed = layout_of(spec.geometry).transposed
    return {f"{path}.weight": shift.T if transposed else shift for path, shift in shifts.items()}


def _for_torch(tensors: Mapping[str, Matrix]) -> Iterator[Buffer]:
    """Yield a safetensors file as torch's tools expect it, tensor by tensor."""
    outlines = {name: Outline(tag="F32", shape=tensors[name].shape) for name in sorted(tensors)}
    yield opening(outlines, {"format": "pt"})
    for name in outlines:
        yield np.ascontiguousarray(tensors[name], dtype="<f4").reshape(-1).view(np.uint8).data

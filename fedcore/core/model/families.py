"""The model families that can be pruned, one entry a `model_type`: names in a config, places of layers, and biases.

A family whose attention reads one key/value head a group of query heads, and whose FFN is gated, has the shape "llama";
two linear layers in the FFN make "bert" (reads both ways) or "gpt" (reads one way). Adding a family is one entry.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fedcore.core.errors import ModelError

Shape = Literal["bert", "llama", "gpt"]
Biases = tuple[bool, bool, bool]  # of q, k and v; of o; of the FFN


@dataclass(frozen=True, slots=True, kw_only=True)
class Fused:
    """One linear layer of a checkpoint that holds several modules: their outputs one after another.

    `by_head`: first all modules of the first head, then those of the second, and so on.
    """

    path: str  # with {} for the layer
    parts: tuple[str, ...]
    by_head: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the linear layers lie in a backbone, and where the backbone lies in transformers' models with a head."""

    backbone: str
    attention: str  # block that holds head counts, with {} for the layer
    paths: Mapping[str, str]  # of layers that hold one module
    fused: tuple[Fused, ...] = ()
    transposed: bool = False  # whether a checkpoint has its weights as (in, out)

    def fused_with(self, module: str) -> Fused | None:
        """Return the fused layer that holds a module; None where it has a layer of its own."""
        return next((layer for layer in self.fused if module in layer.parts), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What fedcore needs to know of one `model_type`.

    `names` has the config's own names of standard keys, `defaults` what a missing key means, `keys` what its config
    says of layers beside the standard keys; `identity` are those that tell one model from another. `heads`: which head
    counts a config takes that says `head_dim` apart: "any", "dividing" the hidden size, or "all" where it cannot say.
    """

    shape: Shape
    layout: Layout
    biases: Callable[[Mapping[str, Any]], Biases]
    keys: tuple[str, ...]
    names: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, int] = field(default_factory=dict)
    identity: tuple[str, ...] = ()
    heads: Literal["any", "dividing", "all"] = "any"
    norms: int = 2  # of a layer
    head_norms: bool = False  # one over the rows of a query head, one over those of a key head
    positions: bool = False  # whether the family learns an embedding of every position
    kernels: tuple[str, ...] = ("sdpa", "eager")  # attention that computes what the config says, best first

    def name(self, key: str) -> str:
        """Return the config's own name of a standard key."""
        return self.names.get(key, key)


def _blocks(prefix: str, paths: Mapping[str, str]) -> dict[str, str]:
    return {module: f"{prefix}.{path}" for module, path in paths.items()}


_BERT_PATHS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "o": "attention.output.dense",
    "up": "intermediate.dense",
    "down": "output.dense",
}
_LLAMA_PATHS = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
BERT = Layout(
    backbone="backbone",  # of our own model class
    attention="encoder.layer.{}.attention.self",
    paths=_blocks("encoder.layer.{}", _BERT_PATHS),
)
LLAMA = Layout(backbone="model", attention="layers.{}.self_attn", paths=_blocks("layers.{}", _LLAMA_PATHS))
PHI3 = Layout(
    backbone="model",
    attention="layers.{}.self_attn",
    paths=_blocks("layers.{}", {"o": "self_attn.o_proj", "down": "mlp.down_proj"}),
    fused=(
        Fused(path="layers.{}.self_attn.qkv_proj", parts=("q", "k", "v")),
        Fused(path="layers.{}.mlp.gate_up_proj", parts=("gate", "up")),
    ),
)
GPT2 = Layout(
    backbone="transformer",
    attention="h.{}.attn",
    paths=_blocks("h.{}", {"o": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj"}),
    fused=(Fused(path="h.{}.attn.c_attn", parts=("q", "k", "v")),),
    transposed=True,
)
GPT_NEOX = Layout(
    backbone="gpt_neox",
    attention="layers.{}.attention",
    paths=_blocks("layers.{}", {"o": "attention.dense", "up": "mlp.dense_h_to_4h", "down": "mlp.dense_4h_to_h"}),
    fused=(Fused(path="layers.{}.attention.query_key_value", parts=("q", "k", "v"), by_head=True),),
)

_BERT_KEYS = (
    "type_vocab_size",
    "layer_norm_eps",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "is_decoder",
    "add_cross_attention",
)
_LLAMA_KEYS = (
    "num_key_value_heads",
    "head_dim",
    "rms_norm_eps",
    "attention_bias",
    "attention_dropout",
    "mlp_bias",
    "pretraining_tp",
    "rope_parameters",
    "rope_scaling",  # this and the next are how transformers wrote rotary settings before its version 5
    "rope_theta",
    "partial_rotary_factor",
    "sliding_window",
    "use_sliding_window",
    "max_window_layers",
    "layer_types",
)
_GEMMA_KEYS = (
    *_LLAMA_KEYS,
    "hidden_activation",
    "query_pre_attn_scalar",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "use_bidirectional_attention",
    "rope_local_base_freq",
    "sliding_window_pattern",
)
_PHI3_KEYS = (*_LLAMA_KEYS, "original_max_position_embeddings", "resid_pdrop", "embd_pdrop")
_SMOLLM3_KEYS = (*_LLAMA_KEYS, "no_rope_layers", "no_rope_layer_interval")
_GPT2_KEYS = (
    "n_positions",
    "n_embd",
    "n_layer",
    "n_head",
    "n_inner",
    "activation_function",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
    "layer_norm_epsilon",
    "scale_attn_weights",
    "scale_attn_by_inverse_layer_idx",
    "reorder_and_upcast_attn",
    "add_cross_attention",
    "summary_type",
    "summary_use_proj",
    "summary_activation",
    "summary_proj_to_labels",
    "summary_first_dropout",
)
_GPT_NEOX_KEYS = (
    "attention_bias",
    "attention_dropout",
    "hidden_dropout",
    "classifier_dropout",
    "layer_norm_eps",
    "use_parallel_residual",
    "is_decoder",
    "rope_parameters",
    "rope_scaling",
    "rotary_pct",  # this and the next are how transformers wrote rotary settings before its version 5
    "rotary_emb_base",
    "partial_rotary_factor",
)
_GPT2_NAMES = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "max_position_embeddings": "n_positions",
}
_GEMMA_IDENTITY = ("hidden_activation", "query_pre_attn_scalar", "attn_logit_softcapping")


def _all(config: Mapping[str, Any]) -> Biases:
    return True, True, True


def _none(config: Mapping[str, Any]) -> Biases:
    return False, False, False


def _qkv(config: Mapping[str, Any]) -> Biases:
    return True, False, False


def _attention(config: Mapping[str, Any]) -> Biases:
    biased = bool(config.get("attention_bias", False))
    return biased, biased, False


def _by_switches(config: Mapping[str, Any]) -> Biases:
    """Both switches are read; relatives of Llama ignore one or both."""
    return *_attention(config)[:2], bool(config.get("mlp_bias", False))


def _gpt_neox(config: Mapping[str, Any]) -> Biases:
    biased = bool(config.get("attention_bias", True))
    return biased, biased, True


def _bert() -> Family:
    return Family(shape="bert", layout=BERT, biases=_all, keys=_BERT_KEYS, heads="all", positions=True)


FAMILIES: Mapping[str, Family] = {
    "bert": _bert(),
    "roberta": _bert(),
    "xlm-roberta": _bert(),
    "llama": Family(shape="llama", layout=LLAMA, biases=_by_switches, keys=_LLAMA_KEYS, heads="dividing"),
    "mistral": Family(shape="llama", layout=LLAMA, biases=_none, keys=_LLAMA_KEYS),
    "qwen2": Family(shape="llama", layout=LLAMA, biases=_qkv, keys=_LLAMA_KEYS),
    "qwen3": Family(
        shape="llama",
        layout=LLAMA,
        biases=_attention,
        keys=_LLAMA_KEYS,
        defaults={"head_dim": 128},
        head_norms=True,
    ),
    "smollm3": Family(
        shape="llama", layout=LLAMA, biases=_by_switches, keys=_SMOLLM3_KEYS, identity=("no_rope_layers",)
    ),
    "gemma": Family(
        shape="llama",
        layout=LLAMA,
        biases=_attention,
        keys=_GEMMA_KEYS,
        defaults={"head_dim": 256, "num_key_value_heads": 16},
    ),
    "gemma2": Family(
        shape="llama",
        layout=LLAMA,
        biases=_attention,
        keys=_GEMMA_KEYS,
        defaults={"head_dim": 256, "num_key_value_heads": 4},
        identity=_GEMMA_IDENTITY,
        heads="dividing",
        norms=4,
        kernels=("eager",),  # it caps the scores of attention
    ),
    "gemma3_text": Family(
        shape="llama",
        layout=LLAMA,
        biases=_attention,
        keys=_GEMMA_KEYS,
        defaults={"head_dim": 256, "num_key_value_heads": 4},
        identity=_GEMMA_IDENTITY,
        heads="dividing",
        norms=4,
        head_norms=True,
    ),
    "phi3": Family(shape="llama", layout=PHI3, biases=_none, keys=_PHI3_KEYS),
    "gpt2": Family(
        shape="gpt",
        layout=GPT2,
        biases=_all,
        keys=_GPT2_KEYS,
        names=_GPT2_NAMES,
        identity=(
            *_GPT2_NAMES.values(),
            "activation_function",
            "layer_norm_epsilon",
            "scale_attn_by_inverse_layer_idx",
        ),
        heads="all",
        positions=True,
    ),
    "gpt_neox": Family(
        shape="gpt",
        layout=GPT_NEOX,
        biases=_gpt_neox,
        keys=_GPT_NEOX_KEYS,
        identity=("use_parallel_residual", "rotary_pct", "rotary_emb_base"),
        heads="all",
    ),
}


def family_of(model_type: str) -> Family:
    """Return the family of a `model_type`; raises ModelError, with the list, for one that cannot be pruned."""
    if model_type not in FAMILIES:
        raise ModelError(f"cannot prune a model of type {model_type!r}; expected one of: {', '.join(FAMILIES)}")
    return FAMILIES[model_type]

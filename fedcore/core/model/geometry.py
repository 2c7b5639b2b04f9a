"""The geometry of a transformer: the shapes that pruning and adapters need.

A *head unit* is the smallest set of attention heads that can leave a layer by a legal move: one head
under multi-head attention, one key/value head with all its query heads under grouped-query attention,
one query head under multi-query attention (the single key/value head stays).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from fedcore.core.errors import ModelError
from fedcore.core.model.families import FAMILIES, Family, Shape, family_of

Unit = Literal["head", "channel"]
Side = Literal["out", "in"]

ATTENTION_MODULES = ("q", "k", "v", "o")
READERS = ("o", "down")  # read the outputs of heads and channels: cut on their inputs, all others on their outputs

_CACHED = 1 << 12  # sparsities: all devices of all rounds ask for those of the same few counts


class Counts(NamedTuple):
    """How many groups every layer that is left keeps (or loses), and how many whole layers are gone.

    A plain list in JSON, a pair in those of earlier versions.
    """

    heads: int  # head units
    channels: int  # FFN channels
    removed_layers: int = 0

    def cells(self) -> list[int]:
        """Return the JSON form: a pair where no layer is removed, as earlier versions wrote it."""
        return list(self if self.removed_layers else self[:2])

    @property
    def size_key(self) -> tuple[int, int, int]:
        """A key by which counts of nested keep-sets ascend, the smallest model first."""
        return self.heads, self.channels, -self.removed_layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """How one linear layer is cut: which side, by which unit, and how many rows or columns a unit has."""

    unit: Unit
    side: Side
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Dense shapes of one base model. Sizes are counts >= 1; raises ModelError where they are not, or do not divide."""

    family: Shape
    model_type: str
    layers: int
    hidden: int
    query_heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    positions: int  # rows of the learned position table; 0 with rotary positions
    token_types: int  # rows of the token-type table; 0 without one
    qkv_bias: bool
    o_bias: bool
    ffn_bias: bool

    def __post_init__(self) -> None:
        for name in ("layers", "hidden", "query_heads", "kv_heads", "head_dim", "ffn", "vocab"):
            if getattr(self, name) < 1:
                raise ModelError(f"model config: {name} must be at least 1, got {getattr(self, name)}")
        if self.query_heads % self.kv_heads:
            raise ModelError(
                f"model config: {self.query_heads} query heads do not divide into {self.kv_heads} key/value heads"
            )

    @property
    def gated(self) -> bool:
        """Whether the FFN has a gate projection (Llama shape)."""
        return self.family == "llama"

    @property
    def modules(self) -> tuple[str, ...]:
        """Canonical names of the linear layers that pruning cuts and adapters attach to."""
        return (*ATTENTION_MODULES, "gate", "up", "down") if self.gated else (*ATTENTION_MODULES, "up", "down")

    @property
    def head_units(self) -> int:
        """Number of removable head units in a dense layer."""
        return self.kv_heads if self.kv_heads > 1 else self.query_heads

    @property
    def queries_per_unit(self) -> int:
        """Query heads in one head unit."""
        return self.query_heads // self.head_units

    @property
    def kv_per_unit(self) -> int:
        """Key/value heads in one head unit; 0 under multi-query attention, where the only one stays."""
        return 1 if self.kv_heads > 1 else 0 if self.query_heads > 1 else 1

    def cut(self, module: str) -> Cut | None:
        """Return how `module` is cut, None where it stays whole; raises ValueError for a name that is no module."""
        head_rows = self.queries_per_unit * self.head_dim
        kv_rows = self.kv_per_unit * self.head_dim
        match module:
            case "q":
                return Cut(unit="head", side="out", width=head_rows)
            case "k" | "v":
                return Cut(unit="head", side="out", width=kv_rows) if kv_rows else None
            case "o":
                return Cut(unit="head", side="in", width=head_rows)
            case "gate" | "up":
                return Cut(unit="channel", side="out", width=1)
            case "down":
                return Cut(unit="channel", side="in", width=1)
        raise ValueError(f"unknown module {module!r}; expected one of {self.modules}")

    @property
    def dense(self) -> Counts:
        """All groups of a layer."""
        return Counts(heads=self.head_units, channels=self.ffn)

    def shape(self, module: str, kept: Counts | None = None) -> tuple[int, int]:
        """Return (out, in) of a module with `kept` groups in its layer; None keeps all.

        Raises KeyError for a name that is no module.
        """
        units, wide, _ = self.dense if kept is None else kept
        query = units * self.queries_per_unit * self.head_dim
        kv = units * self.kv_per_unit * self.head_dim if self.kv_per_unit else self.kv_heads * self.head_dim
        shapes = {
            "q": (query, self.hidden),
            "k": (kv, self.hidden),
            "v": (kv, self.hidden),
            "o": (self.hidden, query),
            "gate": (wide, self.hidden),
            "up": (wide, self.hidden),
            "down": (self.hidden, wide),
        }
        return shapes[module]

    @property
    def head_unit_params(self) -> int:
        """Parameters (weights and biases) that leave a layer with one head unit."""
        rows = (self.queries_per_unit + 2 * self.kv_per_unit) * self.head_dim
        return rows * (self.hidden + int(self.qkv_bias)) + self.queries_per_unit * self.head_dim * self.hidden

    @property
    def channel_params(self) -> int:
        """Parameters (weights and biases) that leave a layer with one FFN channel."""
        inward = 2 if self.gated else 1
        return inward * (self.hidden + int(self.ffn_bias)) + self.hidden

    @property
    def layer_params(self) -> int:
        """Parameters of all prunable groups of one dense layer."""
        return self.head_units * self.head_unit_params + self.ffn * self.channel_params

    @property
    def prunable_params(self) -> int:
        """Parameters of all prunable groups of the dense model: the denominator of sparsity."""
        return self.layers * self.layer_params

    def kept_params(self, kept: Counts) -> int:
        """Parameters of the prunable groups with `kept` groups in every layer that is left."""
        left = self.layers - kept.removed_layers
        return left * (kept.heads * self.head_unit_params + kept.channels * self.channel_params)

    def sparsity(self, kept: Counts) -> float:
        """Return 1 - kept / dense parameters of the prunable groups, in [0, 1)."""
        return _sparsity(self, kept)


@lru_cache(_CACHED)
def _sparsity(geometry: Geometry, kept: Counts) -> float:
    return 1.0 - geometry.kept_params(kept) / geometry.prunable_params


def geometry_from_config(config: Mapping[str, Any]) -> Geometry:
    """Read the geometry out of a Hugging Face `config.json`.

    Raises ModelError for a family that cannot be pruned, naming the families that can, and for missing or impossible
    sizes.
    """
    if "model_type" not in config:
        raise ModelError(_without_type(config))
    model_type = str(config["model_type"])
    family = family_of(model_type)
    try:
        return _geometry(model_type, family, config)
    except KeyError as missing:
        raise ModelError(
            f"model config of type {model_type!r} has no key {missing}; is config.json complete?"
        ) from None
    except (TypeError, ValueError, ZeroDivisionError) as cause:
        raise ModelError(f"model config of type {model_type!r} has a size that cannot be: {cause}") from None


def _geometry(model_type: str, family: Family, config: Mapping[str, Any]) -> Geometry:
    """Raises KeyError, TypeError, ValueError or ZeroDivisionError for what is missing or no size."""
    heads, hidden = (int(config[family.name(key)]) for key in ("num_attention_heads", "hidden_size"))
    bert = family.shape == "bert"
    given = dict(family.defaults) | {key: config[key] for key in ("head_dim", "num_key_value_heads") if key in config}
    inner = config[family.name("intermediate_size")] if model_type != "gpt2" else config.get("n_inner") or 4 * hidden
    qkv_bias, o_bias, ffn_bias = family.biases(config)
    return Geometry(
        family=family.shape,
        model_type=model_type,
        layers=int(config[family.name("num_hidden_layers")]),
        hidden=hidden,
        query_heads=heads,
        kv_heads=int(given.get("num_key_value_heads") or heads) if family.shape == "llama" else heads,
        head_dim=int(given.get("head_dim") or hidden // heads),
        ffn=int(inner),
        vocab=int(config["vocab_size"]),
        positions=int(config[family.name("max_position_embeddings")]) if family.positions else 0,
        token_types=int(config.get("type_vocab_size", 0)) if bert else 0,
        qkv_bias=qkv_bias,
        o_bias=o_bias,
        ffn_bias=ffn_bias,
    )


def _without_type(config: Mapping[str, Any]) -> str:
    """What to do about a config of before transformers 3.1, which names its type by its architectures alone."""
    listed = config.get("architectures")
    names = ", ".join(map(str, listed)) if isinstance(listed, list) else ""
    # A class such as XLMRobertaModel begins with its type's name, without the hyphen.
    begins = (each for each in FAMILIES if names.lower().startswith(each.replace("-", "").replace("_", "")))
    guess = max(begins, key=len, default=None)
    said = f", but architectures of {names}" if names else ""
    value = f'"{guess}"' if guess else f"one of {', '.join(FAMILIES)}"
    return f'config.json has no model_type{said}: add "model_type": {value}, or save the model anew with transformers'

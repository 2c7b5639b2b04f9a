"""Classifiers on BERT-type backbones whose layers keep fewer attention heads and FFN channels than the original.

This file travels with every exported model and imports only torch and transformers. Load an export with
`AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)`.
"""

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

MEAN_HEAD_SCALE = 10.0  # length of the pooled vector that the mean head sees
STANDARD_KEYS = (
    "vocab_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)


class FedcoreBertConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """Configuration: the original backbone's, and what is left of it.

    backbone: config of the dense backbone (BERT, RoBERTa or XLM-RoBERTa) as a dictionary with its `model_type`.
    kept_heads, ffn_sizes: attention heads and FFN channels left in every layer; empty means all.
    head_kind: "mean" (mean over tokens, normalised, linear) or "stock" (the family's own head).

    `config.json` has the family's own sizes (STANDARD_KEYS) too, for tools that read them there; they are derived from
    the three values above, which decide.
    """

    model_type = "fedcore_bert"

    def __init__(
        self,
        backbone: dict[str, Any] | None = None,
        kept_heads: list[int] | None = None,
        ffn_sizes: list[int] | None = None,
        head_kind: str = "mean",
        **kwargs: Any,
    ) -> None:
        self.backbone = dict(backbone or {})
        self.kept_heads = list(kept_heads or [])
        self.ffn_sizes = list(ffn_sizes or [])
        self.head_kind = head_kind
        self.hidden_size = int(self.backbone.get("hidden_size", 0))
        kwargs |= {"pad_token_id": self.backbone.get("pad_token_id")}
        for key in ("hidden_size", *STANDARD_KEYS):
            kwargs.pop(key, None)
        super().__init__(**kwargs)

    @property
    def vocab_size(self) -> int:
        """Rows of the token embeddings; setting it is how transformers tells that they were resized."""
        return int(self.backbone.get("vocab_size", 0))

    @vocab_size.setter
    def vocab_size(self, size: int) -> None:
        self.backbone["vocab_size"] = int(size)

    @property
    def num_hidden_layers(self) -> int:
        """Layers that are left."""
        return int(self.backbone.get("num_hidden_layers", 0))

    @num_hidden_layers.setter
    def num_hidden_layers(self, layers: int) -> None:
        self.backbone["num_hidden_layers"] = int(layers)

    @property
    def num_attention_heads(self) -> int:
        """Attention heads of a layer before any left: tools divide `hidden_size` by it for the size of a head.

        `kept_heads` says how many are left.
        """
        return int(self.backbone.get("num_attention_heads", 0))

    @property
    def intermediate_size(self) -> int:
        """FFN channels left in a layer; of the widest, where layers differ."""
        return int(max(self.ffn_sizes, default=self.backbone.get("intermediate_size", 0)))

    @property
    def max_position_embeddings(self) -> int:
        """Rows of the position embeddings."""
        return int(self.backbone.get("max_position_embeddings", 0))

    @property
    def type_vocab_size(self) -> int:
        """Rows of the token type embeddings."""
        return int(self.backbone.get("type_vocab_size", 0))

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as `config.json` has it, with the family's own sizes."""
        sizes = {key: getattr(self, key) for key in STANDARD_KEYS}
        return {**super().to_dict(), **(sizes if self.backbone else {})}


class FedcoreDenseHead(nn.Module):
    """RoBERTa's classification head: first token -> dense -> tanh -> linear."""

    def __init__(self, hidden: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.out_proj = nn.Linear(hidden, labels)

    def forward(self, first: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, labels) of first-token states (batch, hidden)."""
        logits: torch.Tensor = self.out_proj(self.dropout(torch.tanh(self.dense(self.dropout(first)))))
        return logits


class FedcoreBertPreTrainedModel(PreTrainedModel):  # type: ignore[no-untyped-call]
    """What models on a pruned backbone share: its pieces, and how it is fed."""

    config_class = FedcoreBertConfig
    base_model_prefix = "backbone"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    backbone: Any  # BertModel, RobertaModel or XLMRobertaModel

    def get_input_embeddings(self) -> nn.Module:
        """Return the token embeddings."""
        embeddings: nn.Module = self.backbone.embeddings.word_embeddings
        return embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embeddings."""
        self.backbone.embeddings.word_embeddings = value

    def _outputs(self, input_ids: torch.Tensor | None, **kwargs: Any) -> Any:
        """Return the backbone's output as a structure, with the states and attentions that the model's config wants."""
        for name in ("output_hidden_states", "output_attentions"):
            if kwargs.get(name) is None:
                kwargs[name] = getattr(self.config, name)
        return self.backbone(input_ids, return_dict=True, **kwargs)


class FedcoreBertModel(FedcoreBertPreTrainedModel):
    """A pruned BERT-type backbone without a task head, as feature extractors want it."""

    def __init__(self, config: FedcoreBertConfig) -> None:
        super().__init__(config)
        self.backbone = make_backbone(config)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(self, input_ids: torch.Tensor | None = None, return_dict: bool | None = None, **kwargs: Any) -> Any:
        """Return the last hidden states (batch, tokens, hidden), and the pooled one where the backbone has a pooler."""
        output = self._outputs(input_ids, **kwargs)
        return output if self.config.return_dict and return_dict is not False else output.to_tuple()


class FedcoreBertForSequenceClassification(FedcoreBertPreTrainedModel):
    """A pruned BERT-type backbone with a task head."""

    def __init__(self, config: FedcoreBertConfig) -> None:
        super().__init__(config)
        self.num_labels = len(config.id2label or ())
        self.pooled = _has_pooler(config)
        self.backbone = make_backbone(config)
        original = self.backbone.config
        dropout = original.classifier_dropout
        dropout = original.hidden_dropout_prob if dropout is None else dropout
        self.dropout = nn.Dropout(dropout)
        # The family's own name: peft and others find a head to train by it.
        self.classifier = make_head(config, original.model_type, dropout)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return logits (batch, labels), and where `labels` are given the loss of the config's `problem_type`.

        Raises ValueError, with the remedy, for labels that do not fit the problem (`loss_of`).
        """
        output = self._outputs(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        pooled = self.pool(output, attention_mask)
        logits = self.classifier(pooled.to(input_dtype(self.classifier, output.last_hidden_state.dtype)))
        result = SequenceClassifierOutput(
            loss=None if labels is None else loss_of(self.config.problem_type, logits, labels),
            logits=logits,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )
        return result if self.config.return_dict and return_dict is not False else result.to_tuple()

    def pool(self, output: Any, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """Return what the head sees, (batch, hidden); means are taken in float32 at least."""
        states = output.last_hidden_state  # (batch, tokens, hidden)
        if self.config.head_kind == "stock":
            pooled: torch.Tensor = self.dropout(output.pooler_output) if self.pooled else states[:, 0]
            return pooled
        states = states.to(torch.promote_types(states.dtype, torch.float32))
        mask = states.new_ones(states.shape[:2]) if attention_mask is None else attention_mask.to(states.dtype)
        total = (states * mask[..., None]).sum(dim=1)
        return nn.functional.normalize(total / mask.sum(dim=1, keepdim=True).clamp(min=1), dim=-1) * MEAN_HEAD_SCALE


def _has_pooler(config: FedcoreBertConfig) -> bool:
    return config.head_kind == "stock" and config.backbone.get("model_type") == "bert"


def make_backbone(config: FedcoreBertConfig) -> Any:
    """Return the backbone that `config` describes, pruned, with torch's own initial values."""
    backbone = AutoModel.from_config(  # type: ignore[no-untyped-call]
        AutoConfig.for_model(**config.backbone),
        add_pooling_layer=_has_pooler(config),
        attn_implementation=config._attn_implementation,
    )
    narrow(backbone, config.kept_heads, config.ffn_sizes)
    return backbone


def input_dtype(head: nn.Module, usual: torch.dtype) -> torch.dtype:
    """Return the dtype that a head computes in: that of its weights, or `usual` where it has no weights of floats.

    The weights of a quantised layer are packed: they are no parameters, and it takes what the layers before it give.
    """
    return next((each.dtype for each in head.parameters() if each.dtype.is_floating_point), usual)


def loss_of(problem_type: str | None, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the scalar loss that transformers' classifiers have for a `problem_type`; logits are (batch, classes).

    regression: mean squared error; labels (batch,) for one class, else (batch, classes).
    single_label_classification: cross-entropy; labels are integers (batch,).
    multi_label_classification: binary cross-entropy; labels are 0 and 1, (batch, classes).
    None: what fits the labels, as in transformers. Raises ValueError for another problem, or labels that do not fit.
    """
    problem = problem_type or _problem_of(logits, labels)
    whole, same_shape = labels.dtype in _INTEGERS, labels.shape == logits.shape
    if problem == "regression" and (same_shape or labels.numel() == logits.numel() == len(logits)):
        return nn.functional.mse_loss(logits, labels.view_as(logits).to(logits.dtype))
    if problem == "multi_label_classification" and same_shape:
        return nn.functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
    if problem == "single_label_classification" and whole and labels.numel() == len(logits):
        return nn.functional.cross_entropy(logits, labels.reshape(-1).long())
    raise ValueError(_unfit(problem, logits, labels))


def _problem_of(logits: torch.Tensor, labels: torch.Tensor) -> str:
    if logits.shape[-1] == 1:
        return "regression"
    whole = labels.dtype in _INTEGERS and labels.numel() == len(logits)
    return "single_label_classification" if whole else "multi_label_classification"


def _unfit(problem: str, logits: torch.Tensor, labels: torch.Tensor) -> str:
    """What is wrong with `labels`, or with the problem, and what to do."""
    rows, classes = logits.shape
    expected = {
        "regression": f"numbers of shape ({rows},)" if classes == 1 else f"numbers of shape ({rows}, {classes})",
        "single_label_classification": f"integers of shape ({rows},)",
        "multi_label_classification": f"0 and 1 of shape ({rows}, {classes})",
    }
    if problem not in expected:
        return f"problem_type {problem!r}: expected one of {', '.join(expected)}; set model.config.problem_type"
    others = ", ".join(f"{other!r} for {shape}" for other, shape in expected.items() if other != problem)
    return (
        f"labels: expected {expected[problem]} for problem_type {problem!r}, got {labels.dtype} of shape"
        f" {tuple(labels.shape)}; change the labels, or load the model with another problem_type: {others}"
    )


def make_head(config: FedcoreBertConfig, backbone_type: str, dropout: float) -> nn.Module:
    """Return the task head module that `config` asks for, with torch's own initial values."""
    labels = len(config.id2label or ())
    if config.head_kind == "stock" and backbone_type != "bert":
        return FedcoreDenseHead(config.hidden_size, labels, dropout)
    return nn.Linear(config.hidden_size, labels)


def narrow(backbone: nn.Module, kept_heads: list[int], ffn_sizes: list[int]) -> None:
    """Replace linear layers by new ones with so many heads and channels in each layer; empty lists change nothing."""
    layers: Any = backbone.get_submodule("encoder.layer")
    for layer, heads in zip(layers if kept_heads else (), kept_heads, strict=True):
        attention, hidden = layer.attention.self, layer.attention.output.dense.out_features
        width = heads * attention.attention_head_size
        attention.num_attention_heads, attention.all_head_size = heads, width
        attention.query, attention.key, attention.value = (nn.Linear(hidden, width) for _ in range(3))
        layer.attention.output.dense = nn.Linear(width, hidden)
    for layer, channels in zip(layers if ffn_sizes else (), ffn_sizes, strict=True):
        hidden = layer.output.dense.out_features
        layer.intermediate.dense, layer.output.dense = nn.Linear(hidden, channels), nn.Linear(channels, hidden)

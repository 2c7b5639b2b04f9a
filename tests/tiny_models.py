"""Tiny random models with a tokenizer, in folders as `save_pretrained` writes them: hidden 32, two layers."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from fedcore.core.model.keep_set import KeepSet

WORDS = ("good", "bad", "film", "plot", "actor", "the", "a", "was", "very", "not", "and", "story", "great", "dull")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
VOCAB = 64

_BERT = {"num_attention_heads": 4, "intermediate_size": 48, "max_position_embeddings": 40, "pad_token_id": 0}
_LLAMA = {"num_attention_heads": 4, "intermediate_size": 48, "max_position_embeddings": 64, "head_dim": 8}
_TOKENS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
KINDS = {
    "bert": {"model_type": "bert", **_BERT},
    "roberta": {"model_type": "roberta", **_BERT, "type_vocab_size": 1},
    "llama": {"model_type": "llama", **_LLAMA, "num_key_value_heads": 4},
    "llama-gqa": {"model_type": "llama", **_LLAMA, "hidden_size": 36, "num_attention_heads": 9}
    | {"num_key_value_heads": 3, "head_dim": 4},
    "llama-mqa": {"model_type": "llama", **_LLAMA, "num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True},
    "mistral": {"model_type": "mistral", **_LLAMA, "num_key_value_heads": 2},
    "qwen2": {"model_type": "qwen2", **_LLAMA, "num_key_value_heads": 2},
    "qwen3": {"model_type": "qwen3", **_LLAMA, "num_key_value_heads": 2, "attention_bias": True},
    "smollm3": {"model_type": "smollm3", **_LLAMA, "num_key_value_heads": 2, "no_rope_layers": [1, 0], **_TOKENS},
    "gemma": {"model_type": "gemma", **_LLAMA, "num_key_value_heads": 1},
    "gemma2": {"model_type": "gemma2", **_LLAMA, "num_key_value_heads": 2, "sliding_window": 6},
    "gemma3": {"model_type": "gemma3_text", **_LLAMA, "num_key_value_heads": 2, "sliding_window": 6}
    | {"layer_types": ["sliding_attention", "full_attention"]},
    "phi3": {"model_type": "phi3", **_LLAMA, "num_key_value_heads": 2, **_TOKENS},
    "gpt2": {
        "model_type": "gpt2",
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_inner": 48,
        "n_positions": 64,
        **_TOKENS,
    },
    "gpt-neox": {"model_type": "gpt_neox", **_BERT, **_TOKENS},
}


def tiny_config(kind: str, layers: int = 2, **more: Any) -> Any:
    """Return transformers' config of `kind` (a key of KINDS)."""
    sizes = {} if kind == "gpt2" else {"hidden_size": 32, "num_hidden_layers": layers}
    return AutoConfig.for_model(**sizes | {"vocab_size": VOCAB} | KINDS[kind] | more)


def tiny_model(
    folder: Path,
    kind: str,
    *,
    num_labels: int = 0,
    seed: int = 0,
    layers: int = 2,
    writes: bool = False,
    tied: bool = True,
) -> Path:
    """Write a random model of `kind` (a key of KINDS) and a tokenizer into `folder`, and return it.

    A backbone, with `num_labels` a finished sequence classifier, or a causal language model that `writes`. Weights are
    larger than a real initialisation, biases random, so that every head and channel matters.
    """
    auto = AutoModelForSequenceClassification if num_labels else AutoModelForCausalLM if writes else AutoModel
    more = ({"num_labels": num_labels} if num_labels else {}) | ({"tie_word_embeddings": tied} if writes else {})
    config = tiny_config(kind, layers, **more)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = auto.from_config(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "norm" not in name.lower():
                    parameter.normal_(std=0.2)
    model.save_pretrained(folder)
    tiny_tokenizer(bert=kind in ("bert", "roberta")).save_pretrained(folder)
    return folder


def tiny_tokenizer(*, bert: bool = True) -> PreTrainedTokenizerFast:
    """Return a word-level tokenizer over WORDS; a Llama-like one has an end token and no padding token."""
    vocab = {word: index for index, word in enumerate((*SPECIAL, *WORDS))}
    tokenizer = Tokenizer(WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]" if bert else "[CLS] $A",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1" if bert else "[CLS] $A $B",
        special_tokens=[(word, vocab[word]) for word in ("[CLS]", "[SEP]")],
    )
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=32,
        **(names if bert else {"unk_token": "[UNK]", "bos_token": "[CLS]", "eos_token": "[SEP]"}),
    )


def pad_beyond_vocabulary(folder: Path) -> Path:
    """Give the tokenizer of a tiny model a new padding token, which the model has no embedding for."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"filler-{number}" for number in range(VOCAB - len(tokenizer))])
    tokenizer.add_special_tokens({"pad_token": "<late-pad>"})
    assert tokenizer.pad_token_id == VOCAB
    tokenizer.save_pretrained(folder)
    return folder


def tiny_batch(*, rows: int = 3, tokens: int = 7, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return right-padded input ids and mask (rows, tokens); row i has tokens - i true tokens, never the pad's id."""
    drawn = torch.Generator().manual_seed(seed)
    ids = torch.randint(len(SPECIAL), VOCAB, (rows, tokens), generator=drawn)
    mask = (torch.arange(tokens)[None] < tokens - torch.arange(rows)[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def random_keep_set(within: KeepSet, *, heads: int, channels: int, seed: int = 0) -> KeepSet:
    """Return a keep-set inside `within` with so many head units and channels in every layer, different by layer."""
    rng = np.random.default_rng(seed)
    return KeepSet(
        heads=tuple(_drawn(rng, row, heads) for row in within.heads),
        channels=tuple(_drawn(rng, row, channels) for row in within.channels),
    )


def _drawn(rng: np.random.Generator, row: tuple[int, ...], count: int) -> tuple[int, ...]:
    return tuple(sorted(int(each) for each in rng.choice(row, count, replace=False)))

"""A model and data of the examples' own, so that they run at once and offline: a tiny random BERT, made-up reviews.

For real results put a real model and data in their place: model.path = "fetch:minilm" and data.train = "fetch:movies",
after `fedcore fetch minilm movies`.
"""

import random
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
from transformers.utils import logging

torch.set_num_threads(1)  # so small a model trains fastest on one
logging.disable_progress_bar()

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
PRAISE, BLAME = ("good", "great", "warm", "witty"), ("bad", "dull", "cold", "flat")
NEUTRAL = ("the", "a", "film", "plot", "actor", "was", "and", "story", "ending", "music")


def toy_model(folder: Path) -> Path:
    """Write a random BERT of two layers and a tokenizer of twenty words into `folder`, and return it."""
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *PRAISE, *BLAME, *NEUTRAL))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(word, vocabulary[word]) for word in ("[CLS]", "[SEP]")]
    )
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=32, **names).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=32,
        pad_token_id=0,
        initializer_range=0.2,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    return folder


def toy_reviews(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Return made-up reviews of seven words, two of which tell the label, "negative" or "positive"."""
    draw = random.Random(seed)
    return [toy_review(draw, label) for label in ("negative", "positive") * (count // 2)]


def toy_review(draw: random.Random, label: str) -> dict[str, str]:
    """Return one review."""
    words = draw.choices(NEUTRAL, k=5) + draw.choices(PRAISE if label == "positive" else BLAME, k=2)
    draw.shuffle(words)
    return {"text": " ".join(words), "label": label}

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.errors import ModelError
from fedcore.core.model.head import HeadSpec, checkpoint_head, checkpoint_rows, has_label_rows, resolve_head

SIZES = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "vocab_size": 20,
    "max_position_embeddings": 16,
}
BERT = {"model_type": "bert", **SIZES}
ROBERTA = {"model_type": "xlm-roberta", **SIZES}
LLAMA = {"model_type": "llama", **SIZES}
BERT_HEAD = {"classifier.weight": (3, 8), "classifier.bias": (3,), "bert.pooler.dense.weight": (8, 8)}
ROBERTA_HEAD = {
    "classifier.dense.weight": (8, 8),
    "classifier.dense.bias": (8,),
    "classifier.out_proj.weight": (3, 8),
    "classifier.out_proj.bias": (3,),
}


def finished(config: dict[str, object], name: str) -> dict[str, object]:
    return config | {"architectures": [f"{name}ForSequenceClassification"]}


def test_a_bert_backbone_gets_a_mean_head() -> None:
    assert resolve_head(BERT, "auto", 4, {}) == HeadSpec(
        kind="mean", shapes=(("head.bias", (4,)), ("head.weight", (4, 8)))
    )


def test_a_llama_gets_transformers_own_head_without_bias() -> None:
    assert resolve_head(LLAMA, "auto", 4, {}) == HeadSpec(kind="last", shapes=(("head.weight", (4, 8)),))
    assert resolve_head(LLAMA, "last", 4, {"score.weight": (9, 8)}).kind == "last"


def test_a_finished_classifier_keeps_its_head_where_the_labels_fit() -> None:
    assert resolve_head(finished(BERT, "Bert"), "auto", 3, BERT_HEAD) == HeadSpec(
        kind="stock", shapes=(("head.bias", (3,)), ("head.weight", (3, 8)))
    )
    assert resolve_head(finished(BERT, "Bert"), "auto", 2, BERT_HEAD).kind == "mean"
    assert resolve_head(BERT, "auto", 3, BERT_HEAD).kind == "mean"


def test_roberta_keeps_both_layers_of_its_head() -> None:
    spec = resolve_head(finished(ROBERTA, "XLMRoberta"), "auto", 3, ROBERTA_HEAD)
    assert spec.kind == "stock"
    assert spec.shapes == (
        ("head.dense.bias", (8,)),
        ("head.dense.weight", (8, 8)),
        ("head.out_proj.bias", (3,)),
        ("head.out_proj.weight", (3, 8)),
    )


@pytest.mark.parametrize(
    ("config", "kind", "labels", "shapes", "message"),
    [
        (LLAMA, "mean", 2, {}, "'mean' does not fit a model of type 'llama'; use auto or last"),
        (LLAMA, "stock", 2, {}, "use auto or last"),
        (BERT, "last", 2, {}, "use auto, mean or stock"),
        (BERT, "stock", 2, {}, "no tensor classifier.weight; use head = 'mean'"),
        (BERT, "stock", 2, BERT_HEAD, r"shape \(3, 8\), expected \(2, 8\) for 2 outputs"),
        (BERT, "cls", 2, {}, "unknown head 'cls'"),
        (BERT | {"model_type": "t5"}, "auto", 2, {}, "cannot prune a model of type 't5'"),
    ],
)
def test_a_head_that_does_not_fit_is_refused_with_the_remedy(config, kind, labels, shapes, message) -> None:
    with pytest.raises(ModelError, match=message):
        resolve_head(config, kind, labels, shapes)


def test_first_values_come_from_the_checkpoints_own_names() -> None:
    assert checkpoint_head("stock", "head.out_proj.bias") == "classifier.out_proj.bias"
    assert checkpoint_head("last", "head.weight") == "score.weight"
    assert checkpoint_head("mean", "head.weight") is None


def test_rows_of_the_checkpoint_follow_label_names() -> None:
    config = {"id2label": {"0": "NEGATIVE", "1": "POSITIVE"}}
    assert checkpoint_rows(config, ("positive", "negative")) == (1, 0)
    assert checkpoint_rows(config, ("1", "0")) == (0, 1)  # other names: row i is label i
    assert checkpoint_rows({}, ("a", "b", "c")) == (0, 1, 2)
    assert checkpoint_rows({"id2label": {"0": "a", "1": "A"}}, ("a", "A")) == (0, 1)


@given(st.permutations(("a", "b", "c", "d")))
def test_rows_name_every_label_once_and_rightly(names: list[str]) -> None:
    rows = checkpoint_rows({"id2label": {str(row): name for row, name in enumerate(names)}}, ("d", "c", "b", "a"))
    assert [names[row] for row in rows] == ["d", "c", "b", "a"]


def test_only_the_last_layer_of_a_head_has_label_rows() -> None:
    assert has_label_rows("head.weight") and has_label_rows("head.out_proj.bias")
    assert not has_label_rows("head.dense.weight")

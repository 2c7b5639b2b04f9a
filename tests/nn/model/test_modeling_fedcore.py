import pytest

from fedcore.nn.model.modeling_fedcore import FedcoreBertConfig, FedcoreBertForSequenceClassification
from tests.tiny_models import KINDS, tiny_batch


def test_layers_may_keep_different_widths() -> None:
    backbone = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 64} | KINDS["bert"]
    config = FedcoreBertConfig(backbone=backbone, kept_heads=[1, 3], ffn_sizes=[5, 48], num_labels=3)
    model = FedcoreBertForSequenceClassification(config).eval()
    widths = [
        (layer.attention.self.query.out_features, layer.output.dense.in_features)
        for layer in model.backbone.encoder.layer
    ]
    assert widths == [(8, 5), (24, 48)]
    assert model(**tiny_batch(), return_dict=False)[0].shape == (3, 3)
    with pytest.raises(ValueError, match="shorter"):
        FedcoreBertForSequenceClassification(FedcoreBertConfig(backbone=backbone, kept_heads=[1]))

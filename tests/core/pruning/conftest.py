import pytest

from fedcore.core.model.geometry import Geometry, geometry_from_config

BERT = {
    "model_type": "bert",
    "num_attention_heads": 12,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "vocab_size": 30522,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}
LLAMA = {
    "model_type": "llama",
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "vocab_size": 49152,
    "intermediate_size": 1536,
    "max_position_embeddings": 8192,
}
SMALL = BERT | {"num_attention_heads": 4, "hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 20}


@pytest.fixture(scope="session")
def minilm() -> Geometry:
    return geometry_from_config(BERT)


@pytest.fixture(scope="session")
def smollm() -> Geometry:
    return geometry_from_config(LLAMA)


@pytest.fixture(scope="session")
def small() -> Geometry:
    return geometry_from_config(SMALL)

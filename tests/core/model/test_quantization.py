import pytest

from fedcore.core.config.tables import ModelConfig
from fedcore.core.config.toml import parse_config
from fedcore.core.errors import ConfigError
from fedcore.core.model.quantization import FORMS, weight_bytes


def test_bytes_of_a_weight_in_every_form() -> None:
    assert weight_bytes("none", (64, 128), 2) == 2 * 64 * 128
    assert weight_bytes("int8", (64, 128), 2) == 64 * 128 + 4 * 64
    assert weight_bytes("nf4", (64, 128), 2) == 64 * 128 / 2 + 128 + 4 * 128 / 256
    with pytest.raises(ConfigError, match="expected one of none, int8, nf4; got 'fp8'"):
        weight_bytes("fp8", (1, 1), 4)


def test_a_class_has_the_models_form_or_its_own() -> None:
    config = parse_config(
        '[model]\nquantize = "int8"\n[[fleet.class]]\nname = "a"\n[[fleet.class]]\nname = "b"\nquantize = "none"', []
    )
    assert (config.quantize("a"), config.quantize("b"), config.quantize("other")) == ("int8", "none", "int8")
    assert config.forms == (("", "int8"), ("b", "none"))


def test_the_configuration_takes_every_form() -> None:
    assert [ModelConfig(quantize=form).quantize for form in FORMS] == list(FORMS)
    with pytest.raises(ConfigError, match=r"model.quantize: expected one of none, int8, nf4"):
        ModelConfig(quantize="4bit")

import pytest

from fedcore.core.codec.negotiation import FIRST_PARTS, KNOWN_GOOD, PARTS, agreed_codec
from fedcore.core.errors import ConfigError


@pytest.mark.parametrize(
    ("wanted", "supported", "codec"),
    [
        ("ef+topk:0.05+int8+zstd", PARTS, "ef+topk:0.05+int8+zstd"),
        ("int8:64", ("int8",), "int8:64"),
        ("int8", (), "bf16+zstd"),  # a device of the first version
        ("fp16+zstd", (), "fp16+zstd"),
        ("ef+bf16", FIRST_PARTS, "bf16+zstd"),
        ("int4+zstd", ("int4", "bf16"), "identity"),
        ("bf16", ("fp32",), "identity"),
        ("identity", ("something new",), "identity"),
    ],
)
def test_a_device_gets_what_it_can_encode(wanted, supported, codec):
    assert agreed_codec(wanted, supported) == codec


def test_what_is_fallen_back_to_is_known_to_the_first_version():
    for codec in KNOWN_GOOD:
        assert agreed_codec(codec, ()) == codec


def test_an_unknown_codec_is_refused():
    with pytest.raises(ConfigError):
        agreed_codec("int9", PARTS)

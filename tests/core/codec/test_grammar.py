import pytest

from fedcore.core.codec.cast import CASTS
from fedcore.core.codec.grammar import FORMATS, PARTS, parse_chain, parse_format, parts_of
from fedcore.core.errors import ConfigError

OLD = ("identity", "bf16", "fp16", "zstd", "identity+zstd", "bf16+zstd", "fp16+zstd")


@pytest.mark.parametrize("name", OLD)
def test_the_first_versions_names_mean_what_they_meant(name):
    chain = parse_chain(name)
    assert (chain.feedback, chain.share) == (False, None)
    assert chain.format is CASTS[name.removesuffix("+zstd") if name != "zstd" else "identity"]
    assert chain.compress == name.endswith("zstd")


@pytest.mark.parametrize(
    ("name", "feedback", "share", "word", "compress"),
    [
        ("int8", False, None, "int8:128", False),
        ("int8+zstd", False, None, "int8:128", True),
        ("int4:32", False, None, "int4:32", False),
        ("int4", False, None, "int4:64", False),
        ("topk", False, 0.1, "identity", False),
        ("topk:1", False, 1.0, "identity", False),
        ("topk:0.05+int8+zstd", False, 0.05, "int8:128", True),
        ("topk+zstd", False, 0.1, "identity", True),
        ("ef+int8+zstd", True, None, "int8:128", True),
        ("ef+topk:0.01+bf16", True, 0.01, "bf16", False),
        ("ef+topk", True, 0.1, "identity", False),
    ],
)
def test_chains(name, feedback, share, word, compress):
    chain = parse_chain(name)
    assert (chain.feedback, chain.share, chain.format.word, chain.compress) == (feedback, share, word, compress)


@pytest.mark.parametrize(
    "name",
    [
        *("", "x", "+", "bf16+", "+zstd", "zstd+bf16", "bf16+fp16", "int8+int4", "zstd+zstd", "bf16+zstd+zstd"),
        *("int8+topk", "topk+topk", "int8+ef", "ef", "ef+ef+int8", "zstd:3", "ef:1+int8", "INT8", " int8"),
        *("topk:+int8", "int8:", "int88"),
    ],
)
def test_what_is_no_chain_is_told_the_grammar(name):
    with pytest.raises(ConfigError, match="in the order ef, topk:SHARE, a number format, zstd, out of ef, topk, ident"):
        parse_chain(name)


@pytest.mark.parametrize("share", ["0", "0.0", "1.01", "-0.1", "nan", "inf", "1e-3", ".5", "x", "0.1.1"])
def test_a_share_outside_of_its_range_is_refused(share):
    with pytest.raises(ConfigError, match=r"topk:SHARE needs a share in \(0, 1\]"):
        parse_chain(f"topk:{share}+int8")


@pytest.mark.parametrize("word", ["int8:7", "int4:65537", "int8:-8", "int4:8.0", "int8:x", "int8:9999999999"])
def test_a_block_outside_of_its_range_is_refused(word):
    with pytest.raises(ConfigError, match=r"BLOCK needs a number of values in \[8, 65536\]"):
        parse_chain(word)


def test_a_cast_takes_no_parameter():
    with pytest.raises(ConfigError, match="bf16 takes no parameter, got '8'"):
        parse_chain("bf16:8")


@pytest.mark.parametrize("name", ["ef+identity", "ef+zstd", "ef+identity+zstd"])
def test_feedback_of_nothing_is_refused(name):
    with pytest.raises(ConfigError, match="this one loses nothing"):
        parse_chain(name)


def test_delta_is_for_what_is_handed_out():
    with pytest.raises(ConfigError, match=r"set training\.downlink"):
        parse_chain("delta+bf16+zstd")


@pytest.mark.parametrize("word", FORMATS)
def test_every_format_reads_its_own_word(word):
    assert parse_format(parse_format(word).word) == parse_format(word) == parse_chain(word).format


def test_an_unknown_format_is_refused():
    with pytest.raises(ConfigError, match="expected one of identity, bf16, fp16, int8, int4, got 'zstd'"):
        parse_format("zstd")


def test_only_identity_without_topk_is_lossless():
    assert {name for name in (*FORMATS, "topk", "zstd", "topk:1") if parse_chain(name).lossless} == {"identity", "zstd"}


def test_parts_carry_no_parameters():
    assert parts_of("ef+topk:0.05+int8:64+zstd") == {"ef", "topk", "int8", "zstd"}
    assert set().union(*(parts_of(name) for name in (*FORMATS, "ef+topk+int8", "zstd"))) == set(PARTS)
    with pytest.raises(ConfigError):
        parts_of("x")

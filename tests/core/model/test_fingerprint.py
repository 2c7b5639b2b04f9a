import hashlib
from dataclasses import replace

from fedcore.core.model.fingerprint import Fingerprint

MINE = Fingerprint(tensors="a" * 64, config="b" * 64, tokenizer="c" * 64)


def test_equal_parts_have_no_difference() -> None:
    assert MINE.differences(replace(MINE)) == ()
    assert MINE.difference(replace(MINE)) is None
    assert MINE.combined == replace(MINE).combined


def test_every_part_that_differs_is_named_and_the_first_with_both_hashes() -> None:
    other = replace(MINE, config="d" * 64, tokenizer="e" * 64)
    assert MINE.differences(other) == ("config", "tokenizer")
    assert MINE.difference(other) == f"config {'b' * 16} here, {'d' * 16} there"
    assert replace(MINE, tensors="f" * 64).difference(MINE) == f"tensors {'f' * 16} here, {'a' * 16} there"


def test_one_hash_over_all_three_parts_in_order() -> None:
    assert MINE.combined == hashlib.sha256(("a" * 64 + "\n" + "b" * 64 + "\n" + "c" * 64).encode()).hexdigest()
    swapped = Fingerprint(tensors=MINE.config, config=MINE.tensors, tokenizer=MINE.tokenizer)
    assert swapped.combined != MINE.combined

"""Editorials as rows."""

from benchmarks.pruned_lm.general import CHARACTERS, passages


def test_sentences_of_an_article_are_joined_to_rows_and_short_rests_left_out() -> None:
    half = "x" * (CHARACTERS // 2)
    lines = [f"1_1\t0.5\t{half}", f"1_2\t0\t{half}", "1_3\t0\trest", f"2_1\t0\t{half}", f"2_2\t0\t{half}"]
    assert list(passages(lines)) == [(1, f"{half} {half}"), (2, f"{half} {half}")]

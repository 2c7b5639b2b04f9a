import pytest

from fedcore.local_fleet.complaints import LONGEST, complaint, told_by

REFUSED = "127.0.0.1:4: UNAVAILABLE: Connection refused"
TOKENIZER = "m: no usable tokenizer (expected tokenizer.json)"

LOGS = {  # log of the member a -> what it complains of
    "": None,
    "a: joined; labels x, y": None,
    f"a: {REFUSED}; trying again for up to 300 s": REFUSED,
    f"a: {REFUSED}; trying again": REFUSED,
    f"a: {REFUSED}; trying again\na: joined; labels x": None,
    f"a: joined; labels x\na: round 1 failed: {TOKENIZER}\na: round 2 failed: {TOKENIZER}": TOKENIZER,
    f"a: round 1 failed: {TOKENIZER}\na: 3 rounds in a row missed quorum": TOKENIZER,
    f"a: round 1 failed: {TOKENIZER}\na: round 2: sparsity 0.00, rank 2, loss 1 -> 1, 1 s, 9 bytes up": None,
    f"a: task failed: {TOKENIZER}": TOKENIZER,
    f"a: task failed: {TOKENIZER}\na: round 1: accuracy 0.5 on 9 rows": None,
    f"a: round 3: {REFUSED}; the update is kept and sent once the work is pushed again": REFUSED,
    "a: round 3: update rejected: it holds NaN": "update rejected: it holds NaN",
    "a: connection closed by the coordinator; coming back": "connection closed by the coordinator",
    f"a: {REFUSED}; gave up after 300 s: is the coordinator running and reachable?": REFUSED,
    f"some library says: failed\nerror: {TOKENIZER}": TOKENIZER,
    f"a: {REFUSED}; trying again\nWarning: of some library": REFUSED,
    "a: round 1 failed: " + "x" * 1000: "x" * LONGEST,
}


@pytest.mark.parametrize(("log", "words"), LOGS.items())
def test_the_last_trouble_is_taken_unless_all_went_well_since(log: str, words: str | None) -> None:
    assert complaint("a", log) == words


def test_what_most_say_comes_first_and_once() -> None:
    logs = {f"a-{number}": f"a-{number}: round {number} failed: {TOKENIZER}" for number in range(3)}
    logs |= {
        "evaluator": f"evaluator: {REFUSED}; trying again",
        "b-0": "b-0: joined; labels x",
        "c": "c: third; coming back",
    }
    assert told_by(logs) == f"; 3 of 6 members say: {TOKENIZER}; evaluator says: {REFUSED}"


def test_what_the_coordinator_knows_is_not_said_again() -> None:
    logs = {"a": f"a: round 1 failed: {TOKENIZER}", "b": f"b: {REFUSED}; trying again"}
    assert told_by(logs, known=f"round 1: {TOKENIZER}") == f"; b says: {REFUSED}"


def test_members_that_are_well_say_nothing() -> None:
    assert told_by({"a": "a: joined; labels x", "b": "a library's noise"}) == ""


def test_members_that_have_not_said_a_word_are_still_starting() -> None:
    assert told_by({"a": "", "b": "noise"}) == "; its members were still starting: raise coordinator.join_deadline_s"

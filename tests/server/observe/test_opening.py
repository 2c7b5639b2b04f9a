"""The lines of a coordinator when its first round begins."""

from typing import Any

from fedcore.server.observe.opening import Opening


def joined(device: str, **labels: int) -> dict[str, Any]:
    return {"device": device, "role": "device", "device_class": "nx", "label_counts": tuple(sorted(labels.items()))}


def test_the_rows_of_joined_devices_are_said_once_before_the_first_round() -> None:
    said: list[str] = []
    opening = Opening(said.append)
    opening.event("joined", joined("n1", a=40, b=60))
    opening.event("joined", joined("n2", a=2))
    opening.event("joined", joined("n1", a=30, b=60))  # came again, with other rows
    opening.event("joined", {"device": "evaluator", "role": "evaluator"})
    opening.event("joined", {"device": "old", "role": "device", "device_class": "nx", "label_counts": ()})
    assert said == []
    for _ in range(2):
        opening.event("choice", {"device": "n1"})
        opening.rows([])
    assert said == [
        "rows: 92 to train on; 2 labels: b 65%, a 35%",
        "devices: 2 with 2 to 90 rows; most on n1 (b 67%, a 33%), fewest on n2 (a 100%)",
        "warning: 1 device of 1 to 3 rows, too few to learn from: n2 (2); take fewer devices, more rows, a larger "
        'data.alpha or data.partition = "iid"',
        "one label alone: 1 of 2 devices: n2 (a)",
    ]


def test_a_round_without_a_known_row_says_nothing() -> None:
    said: list[str] = []
    opening = Opening(said.append)
    opening.event("choice", {"device": "n1"})
    assert said == []

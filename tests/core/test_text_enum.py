import json
import pickle

from fedcore.core.text_enum import TextEnum


class Colour(TextEnum):
    RED = "red"
    DARK_BLUE = "dark blue"


def test_a_member_is_its_text_on_every_python() -> None:
    assert Colour.RED == "red" and Colour("red") is Colour.RED
    assert str(Colour.DARK_BLUE) == f"{Colour.DARK_BLUE}" == "dark blue"
    assert f"{Colour.RED:>5}" == "  red"
    assert json.dumps({Colour.RED: Colour.DARK_BLUE}) == '{"red": "dark blue"}'
    assert pickle.loads(pickle.dumps(Colour.RED)) is Colour.RED
    assert {"red": 1}[Colour.RED] == 1

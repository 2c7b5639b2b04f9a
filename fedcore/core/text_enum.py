"""An enumeration whose members are their text, on every supported Python."""

from enum import Enum


class TextEnum(str, Enum):
    """An enumeration of texts. A member equals its value, and `str` and f-strings show the value.

    It does what `enum.StrEnum` does, which Python has since 3.11.
    """

    __str__ = str.__str__

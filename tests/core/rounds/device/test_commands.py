"""The commands are frozen values, and `Command` names each of them."""

from fedcore.core.rounds.device import commands
from tests.core.rounds.unions import check_values


def test_commands_are_values_of_one_union() -> None:
    check_values(commands, commands.Command)

"""The command itself: how errors end it, and which subcommands it has."""

import errno
from collections.abc import Callable

import pytest

import fedcore.cli.main as module
from fedcore.core.errors import ConfigError
from tests.cli.conftest import Fedcore


def failing(error: BaseException) -> Callable[..., None]:
    def app(**_: object) -> None:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConfigError("run.rounds: expected a whole number"), "run.rounds: expected a whole number"),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), "runs: Permission denied"),
        (OSError(errno.ENOSPC, "No space left"), "the output cannot be written: no space left on device"),
    ],
)
def test_an_error_is_one_line_and_exit_code_1(
    fedcore: Fedcore, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    monkeypatch.setattr(module, "app", failing(error))
    said = fedcore("serve")
    assert (said.code, said.out, said.err) == (1, "", f"error: {message}\n")


def test_ctrl_c_ends_without_a_word(fedcore: Fedcore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "app", failing(KeyboardInterrupt()))
    said = fedcore("serve")
    assert (said.code, said.out, said.err) == (1, "", "")


def test_an_error_of_the_system_that_names_no_file_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "app", failing(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(OSError, match="Input/output error"):
        module.run()


def test_every_subcommand_is_listed_in_the_order_of_its_use() -> None:
    commands = [command.name for command in module.app.registered_commands]
    assert commands[:5] == ["fetch", "fleet", "simulate", "serve", "join"]
    assert {*commands} == {
        *("fetch", "fleet", "simulate", "serve", "join", "edge", "show", "export"),
        *("health", "certs", "token", "enrol", "revoke", "doctor"),
    }
    assert [group.name for group in module.app.registered_groups] == ["flower"]

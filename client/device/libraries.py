"""Importing the client's libraries, which read the environment and may be installed by halves."""

import importlib

from fedcore.core.boundary import Boundary
from fedcore.core.errors import ConfigError

OURS = ("fedcore.nn.training.trial_load", "fedcore.nn.model.lora")  # with torch, transformers and peft behind them


def import_libraries() -> None:
    """Import torch, transformers and peft, which takes seconds.

    Raises ConfigError where one of them is there and cannot be imported: for a part of it that is missing, or a
    variable of the environment that it does not understand.
    """
    remedy = "look at variables such as TORCH_LOGS or HF_HOME, or install it anew: pip install 'fedcore[client]'"
    with Boundary(ConfigError, "a client library cannot be imported", remedy=remedy):
        for name in OURS:
            importlib.import_module(name)

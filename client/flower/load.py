"""A Flower app's folder: its ClientApp, and the configuration of its node."""

from pathlib import Path

from click import ClickException
from flwr.app.user_config import UserConfig
from flwr.clientapp import ClientApp
from flwr.clientapp.client_app import LoadClientAppError
from flwr.common.config import get_project_config, parse_config_args
from flwr.supercore.object_ref import load_app

from fedcore.core.errors import ConfigError


def load_client_app(folder: Path) -> ClientApp:
    """Import the app that `[tool.flwr.app.components]` names; raises ConfigError where there is none."""
    try:
        reference = get_project_config(folder)["tool"]["flwr"]["app"]["components"]["clientapp"]
        app = load_app(reference, LoadClientAppError, folder)
    except (FileNotFoundError, ValueError, ImportError, LoadClientAppError) as cause:
        raise ConfigError(f"{folder}: no Flower app can be loaded: {cause}") from None
    if not isinstance(app, ClientApp):
        raise ConfigError(f"{folder}: {reference} is a {type(app).__name__}, expected a ClientApp")
    return app


def node_config(text: str) -> UserConfig:
    """Parse "partition-id=0 name='a word'"; raises ConfigError for anything else."""
    try:
        return parse_config_args([text] if text else None)
    except (ValueError, ClickException) as cause:
        raise ConfigError(f"--node-config {text!r}: {getattr(cause, 'message', cause)}") from None

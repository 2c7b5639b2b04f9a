"""Load a Flower app from its folder: its ServerApp, and its configuration with the changes for this run."""

from pathlib import Path

from click import ClickException
from flwr.app.user_config import UserConfig
from flwr.common.config import get_fused_config_from_dir, get_project_config, parse_config_args
from flwr.serverapp import ServerApp
from flwr.serverapp.server_app import LoadServerAppError
from flwr.supercore.object_ref import load_app

from fedcore.core.errors import ConfigError


def load_server_app(folder: Path) -> ServerApp:
    """Import the app that `[tool.flwr.app.components]` names; raises ConfigError if there is none."""
    try:
        reference = get_project_config(folder)["tool"]["flwr"]["app"]["components"]["serverapp"]
        app = load_app(reference, LoadServerAppError, folder)
    except (FileNotFoundError, ValueError, ImportError, LoadServerAppError) as cause:
        raise ConfigError(f"{folder}: no Flower app can be loaded: {cause}") from None
    if not isinstance(app, ServerApp):
        raise ConfigError(f"{folder}: {reference} is a {type(app).__name__}, expected a ServerApp")
    return app


def run_config(folder: Path, changes: str) -> UserConfig:
    """Return `[tool.flwr.app.config]` with `changes`, "key=value key='a word'"; raises ConfigError for unknown keys."""
    try:
        return get_fused_config_from_dir(folder, parse_config_args([changes] if changes else None))
    except (FileNotFoundError, ValueError, ClickException) as cause:
        raise ConfigError(f"--run-config {changes!r}: {getattr(cause, 'message', cause)}") from None

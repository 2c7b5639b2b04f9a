"""Resolve the model that a configuration names to a local folder."""

from pathlib import Path

from fedcore.core.errors import ModelError
from fedcore.storage.models.fetch import resolve

# Weights, configuration and tokenizer, but never code: fedcore does not run a model's own Python.
_PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.model")


def model_folder(spec: str) -> Path:
    """Return the folder of a model: local, `fetch:NAME`, or a hub id, which is downloaded to the hub's own cache.

    Raises ModelError, with the remedy, where there is no such model or its download fails.
    """
    location = resolve(spec, "model")
    if isinstance(location, Path):
        if not location.is_dir():
            raise ModelError(f"{location} is a file; give the folder that holds config.json and the weights")
        return location
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise ModelError(
            f"{location} is no local folder; to load it from the hub install fedcore[client], or give a folder"
        ) from None
    try:
        return Path(snapshot_download(location, allow_patterns=list(_PATTERNS)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as cause:
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise ModelError(f"{location}: neither a local folder nor to be had from the hub ({reason})") from None

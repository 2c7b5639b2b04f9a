"""Resolve the model that a configuration names to a local folder."""

import shlex
from pathlib import Path

from fedcore.core.boundary import reason
from fedcore.core.errors import ModelError
from fedcore.storage.models.fetch import GGUF, resolve

# Weights, configuration and tokenizer, but never code: fedcore does not run a model's own Python.
_PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.model")


def model_folder(spec: str) -> Path:
    """Return the folder of a model: local, `fetch:NAME`, or a hub id, which is downloaded to the hub's own cache.

    Raises ModelError, with the remedy, where there is no such model or its download fails.
    """
    found = resolve(spec, "model")
    if isinstance(found, Path):
        return _local_folder(found)
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise ModelError(
            f"{found} is no local folder; to load it from the hub install fedcore[client], or give a folder"
        ) from None
    except Exception as cause:  # the library reads a dozen variables of the environment when it is imported
        raise ModelError(f"{found}: the hub's library cannot be imported ({reason(cause)})") from cause
    try:
        return Path(snapshot_download(found, allow_patterns=list(_PATTERNS)))
    except Exception as cause:  # whatever its network clients, file locks and checks of ids raise
        raise ModelError(f"{found}: neither a local folder nor to be had from the hub ({reason(cause)})") from cause


def _local_folder(found: Path) -> Path:
    if found.is_file():
        if found.suffix.lower() == GGUF:
            raise ModelError(f"{found} is a GGUF file; {_convert(found)}")
        raise ModelError(f"{found} is a file; give the folder that holds config.json and the weights")
    packed = sorted(file for file in found.iterdir() if file.suffix.lower() == GGUF)
    if packed and not (found / "config.json").exists():
        raise ModelError(f"{found} holds a model as GGUF alone; {_convert(packed[0])}")
    return found


def _convert(file: Path) -> str:
    return f"convert it once with: fedcore fetch {shlex.quote(str(file))}, and give the folder that this names"

"""Turn a quantised GGUF file into a plain float32 model folder that `transformers` loads in a blink."""

import importlib.metadata
from pathlib import Path

from fedcore.core.boundary import Boundary
from fedcore.core.errors import ModelError
from fedcore.storage.process.quiet import silence_telemetry


def convert_gguf(file: Path, folder: Path) -> None:
    """Write the model and tokenizer of GGUF `file` (de-quantised to float32) into the existing `folder`.

    `transformers` reads GGUF but refuses to save what it read, as "quantized with gguf": so the weights go over into a
    fresh model of the same config without the quantisation note. Takes tens of seconds and, in memory, about twice the
    float32 size. Raises ModelError when the gguf package or the client extra is not installed, or the file is not GGUF.
    """
    silence_telemetry()
    try:
        import gguf  # transformers imports it on its own, with a much longer complaint
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    except ImportError as cause:
        raise ModelError(f"reading {file.name} needs {cause.name}: pip install gguf 'fedcore[client]'") from None
    if not hasattr(gguf, "__version__"):  # where transformers looks if Python 3.10 cannot tell whose package it is
        setattr(gguf, "__version__", importlib.metadata.version("gguf"))  # noqa: B010
    with Boundary(ModelError, f"{file.name} cannot be read as GGUF"):
        quantised = AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name, dtype="float32")
        tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    plain = {key: value for key, value in quantised.config.to_dict().items() if key != "quantization_config"}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**plain))  # type: ignore[no-untyped-call]
    model.load_state_dict(quantised.state_dict())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)

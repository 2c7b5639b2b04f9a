"""Generated code; `python -m fedcore.protos.generate` writes it."""

"""The accelerators that PyTorch finds on this machine. Which one is taken: fedcore.core.accelerators."""

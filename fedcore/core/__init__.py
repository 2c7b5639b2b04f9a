"""The pure core of fedcore: values, arithmetic and decisions. NumPy only; no I/O, no clock, no torch."""

__version__ = "0.1.0"

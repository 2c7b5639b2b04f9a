"""Arithmetic on labels and scores: partitions over devices, label shares, metrics."""

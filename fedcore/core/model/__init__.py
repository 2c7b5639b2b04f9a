"""A transformer for pruning and adapters: its geometry, keep-sets, and the adapter in full coordinates.

Weights and torch are not here but in `fedcore.nn`.
"""

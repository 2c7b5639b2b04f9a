"""A transformer as pruning and adapters see it: its shape, keep-sets, the adapter in full coordinates.

No weights and no torch; those are in `fedcore.nn`.
"""

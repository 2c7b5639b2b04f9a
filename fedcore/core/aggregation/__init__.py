"""Aggregators: how the updates of a round become the next global adapter. Pure, and the same at edges and at the root.

Reducing ones (`factor_mean`, `layer_mean`) add integers (`sums`); bundling ones keep updates apart (`bundle`) until a
rule (`rules`, a paper a file) combines them at the root. `table` names them all.
"""

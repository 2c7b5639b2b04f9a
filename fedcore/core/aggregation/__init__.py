"""Aggregators: how the updates of a round become the next global adapter. Pure, and the same at edges and at the root.

Reducing aggregators (`factor_mean`, `layer_mean`) add integers (`sums`). Bundling aggregators keep updates apart
(`bundle`) until a rule (`rules`, one paper a file) combines them at the root. `table` names all of them.
"""

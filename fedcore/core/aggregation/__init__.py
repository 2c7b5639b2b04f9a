"""Aggregators: how the updates of a round become one step of the global adapter.

Reducing ones add integers (`sums`), bundling ones keep stacks (`bundle`) and combine them by a rule (`rules`).
"""

"""Optimisers on the coordinator: what it does with a round's mean increment."""

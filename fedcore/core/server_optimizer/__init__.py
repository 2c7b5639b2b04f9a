"""Optimisers on the coordinator: they turn a round's mean increment into the step of the adapter."""

"""Importance criteria: a score for every head unit and FFN channel of a trained model; one criterion per file."""

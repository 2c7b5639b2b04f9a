"""Importance criteria: what every head unit and FFN channel is worth to a trained model; one per file."""

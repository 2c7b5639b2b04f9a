"""Importance criteria side by side on one model in one place."""

"""Strategies: published methods (`methods`), composed of one policy and its parts (`policy`)."""

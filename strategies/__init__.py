"""Strategies: published methods (`methods`) made of one policy and its parts (`policy`)."""

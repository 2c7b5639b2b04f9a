"""Conversion between wire messages and values; no other hand-written code touches generated messages."""

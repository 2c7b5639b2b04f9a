"""Figures of a server for its operator: metrics, memory, bytes."""

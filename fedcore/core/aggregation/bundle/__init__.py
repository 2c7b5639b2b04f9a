"""Stacks of updates, kept apart until the root combines them, and their dense form once that is smaller."""

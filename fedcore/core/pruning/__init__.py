"""Pruning decisions: counts by sparsity, the schedule, and one nested removal order."""

"""What to remove and when: counts by sparsity, the schedule, one nested removal order."""

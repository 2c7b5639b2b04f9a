"""Bandits over (sparsity, rank, local steps), one per file, their reward and the replay of their choices."""

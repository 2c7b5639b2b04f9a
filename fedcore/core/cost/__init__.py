"""What a training step of a pruned model costs: memory, arithmetic, seconds, by formula."""

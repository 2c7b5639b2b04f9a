"""The cost of a training step of a pruned model, by formula: memory, arithmetic, seconds."""

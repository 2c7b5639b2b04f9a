"""Local training of one model: batches, loss, optimiser, memory, evaluation."""

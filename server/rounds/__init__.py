"""Rounds at the coordinator: feeding the round machine, dispatching to edges, the queue of the evaluator."""

"""Rounds as they happen at the coordinator: feeding the machine, dispatching, the queue of the evaluator."""

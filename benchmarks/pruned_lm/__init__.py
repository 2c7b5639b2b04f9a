"""A pruned language model: what is left of its task and of its English, and how fast it writes."""

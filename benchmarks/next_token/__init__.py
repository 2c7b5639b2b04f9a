"""The loss of models that write: memory and exactness."""

"""A coordinator and an edge: the shell around round machine, strategy and aggregation. No torch."""

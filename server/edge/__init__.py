"""An edge aggregator: the parent of its devices, and one member of the tier above."""

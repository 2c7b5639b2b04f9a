"""An edge aggregator: a parent to its devices and one member of the tier above."""

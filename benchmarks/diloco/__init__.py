"""What an outer optimiser and coarse codecs save per unit of loss: python -m benchmarks.diloco."""

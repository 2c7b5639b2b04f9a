"""What fedcore costs and earns, measured: `python -m benchmarks.NAME`; stored results lie in results/."""

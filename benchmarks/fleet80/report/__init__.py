"""From stored results to tables, figures and docs/benchmarks/fleet80.md."""

"""Strategies compared on one fleet of 80 virtual devices: see docs/benchmarks/fleet80.md."""

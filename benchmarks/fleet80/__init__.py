"""Strategies compared on one fleet of 80 virtual devices: see docs/fleet80.md."""

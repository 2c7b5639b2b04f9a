"""From stored results to tables, figures and docs/fleet80.md."""

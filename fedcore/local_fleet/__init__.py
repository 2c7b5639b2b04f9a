"""A whole fleet on one machine: a coordinator, devices and an evaluator as processes, with a live view."""

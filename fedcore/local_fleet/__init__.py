"""A whole fleet on one machine: one coordinator, devices and an evaluator as processes, watched live."""

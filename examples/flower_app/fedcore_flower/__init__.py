"""fedcore as a Flower app."""

"""What a quantised base costs and saves in a training step of a real model."""

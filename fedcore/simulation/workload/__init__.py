"""What happens inside an assignment of a virtual device: real training, or a curve of losses."""

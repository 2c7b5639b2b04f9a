"""What removing width, depth and both costs one model in one place, at once and after a short recovery."""

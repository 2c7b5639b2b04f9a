"""The learning rate of a run: how trials find it, and how it falls over the rounds."""

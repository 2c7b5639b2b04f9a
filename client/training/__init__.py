"""Local training on a device: from an assignment to an encoded update, and what a device keeps between rounds."""

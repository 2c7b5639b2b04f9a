"""Between wire messages and values; the only hand-written code that touches generated messages."""

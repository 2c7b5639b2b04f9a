"""A client's side of the wire: links, streams, transfers, and the way from one parent to the next."""

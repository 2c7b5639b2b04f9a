"""A client's side of the wire: links, streams, transfers, and the change from one parent to the next."""

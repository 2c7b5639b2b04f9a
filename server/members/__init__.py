"""Who is here: admission, sessions, leases, edges and the devices below them, revocation, the gRPC service."""

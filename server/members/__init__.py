"""The members of a parent: admission, sessions, leases, edges with their devices, revocation, the gRPC service."""

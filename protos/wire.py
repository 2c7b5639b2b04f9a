"""Constants and channel options both ends of the wire agree on."""

PROTOCOL = 1  # the version spoken; both sides send the range they understand
CHUNK_BYTES = 1 << 20
INLINE_BYTES = 64 << 10  # a blob up to this size travels inside the message that names it: one call instead of three
MAX_MESSAGE_BYTES = 4 << 20
WINDOW_BYTES = 1 << 20  # that a receiver lets arrive ahead of its reading, per stream
ERROR_KEY = "fedcore-error"  # trailing metadata: the error class, so that the far side raises the same
ACCEPT_KEY = "fedcore-accept"  # initial metadata of an upload: the header was accepted, the bytes may come

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # A peer that vanished without a FIN (power cut, dead radio) is noticed within about half a lease: by its kernel's
    # silence. One that hangs while its kernel still takes packets has longer for its answer to a ping, for on a thin
    # link that answer waits behind a window of data: 30 s are enough from 0.3 Mbit/s on.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 30_000),
    # Who tries again for minutes decides itself how often: gRPC's own pauses would grow to two.
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    # A window of fixed size: probing lets it grow to tens of megabytes per device, all of them in the coordinator.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
    # Every link is one connection, also where devices share a process: what breaks one leaves the others alone.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.so_reuseport", 0),  # a port in use must be an error, not shared
    # Straight to the target whatever http_proxy says: a proxy for the web knows nothing of a fleet's own machines.
    ("grpc.enable_http_proxy", 0),
)

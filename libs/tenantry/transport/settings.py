"""gRPC settings of every server and channel, with the reason of each that is not obvious.

Times are milliseconds. With keepalive every 5 s and a ping time-out of 3 s a frozen peer is noticed within 8 s.
"""

from __future__ import annotations

import os

MAX_RECEIVE_BYTES = 1 << 20
MAX_SEND_BYTES = 4 << 20
LOOKAHEAD_BYTES = 256 * 1024
MAX_METADATA_BYTES = 8_192
TUNNEL_WINDOW = 128 * 1024

Options = list[tuple[str, int | str]]

_BOTH: Options = [
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    # keepalive_timeout_ms alone never fires on a peer that is frozen while its kernel still acknowledges TCP; this one does.
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Bandwidth probing grows every stream's window without a cap: 200 unread streams cost 3 GB. A fixed window bounds it.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", LOOKAHEAD_BYTES),
    # Soft and hard limit alike: between two different ones gRPC refuses at random.
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
]

# The largest frame of a tunnel and what stands around it.
_MAX_TUNNEL_MESSAGE = (1 << 20) + 1_024
# What differs for the streams of tunnels, at both ends.
_TUNNELS: Options = [
    ("grpc.max_receive_message_length", _MAX_TUNNEL_MESSAGE),
    ("grpc.max_send_message_length", _MAX_TUNNEL_MESSAGE),
]
# A server's windows stay small and fixed. Probing would let each follow what its sender can send: a hundred streams of somebody who
# honours no credits were 230 MB before they were refused. While a large message is read gRPC widens the window by the message anyway.
_TUNNEL_SERVER: Options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", TUNNEL_WINDOW)]
# What comes to a client has gone through the Master, which holds it to its credits: windows may follow the way's bandwidth and delay.
_TUNNEL_CLIENT: Options = [("grpc.http2.bdp_probe", 1)]
_WITHOUT_END_MS = 2**31 - 1  # how gRPC writes it
_NOT_FOR_TUNNELS = (
    "grpc.http2.bdp_probe",
    "grpc.http2.lookahead_bytes",
    "grpc.tsi.max_frame_size",
    "grpc.max_connection_age_ms",
)

SERVER_ENVIRONMENT = {
    # The thread that waits for gRPC's events reads and decrypts by itself. With gRPC's newer listeners threads of an engine of their
    # own do so and hand each message over: two more changes of context, a third of all that a message costs.
    "GRPC_EXPERIMENTS": "-event_engine_listener",
}
"""What a server's process should have in its environment when it imports gRPC."""

CLIENT_ENVIRONMENT = {
    # The same for a program that only calls: a message there and back takes a third less.
    "GRPC_EXPERIMENTS": "-event_engine_client",
}
"""What a client's process should have in its environment when it imports gRPC."""


def prepare_server_process() -> None:
    """Set `SERVER_ENVIRONMENT`, except where somebody has chosen otherwise. To be called before gRPC is imported first."""
    _prepare(SERVER_ENVIRONMENT)


def prepare_client_process() -> None:
    """Set `CLIENT_ENVIRONMENT`, likewise."""
    _prepare(CLIENT_ENVIRONMENT)


def _prepare(environment: dict[str, str]) -> None:
    for name, value in environment.items():
        os.environ.setdefault(name, value)


def server_options(*, file_descriptors: int, max_streams_per_connection: int, channelz: bool = False) -> Options:
    """Options of a listener. ``file_descriptors`` is the process's limit; ``channelz``: figures of each connection are kept."""
    return [
        *_BOTH,
        # On by default: a second Master would silently share the port.
        ("grpc.so_reuseport", 0),
        # On by default: memory for each connection and counters for each message, which nobody reads.
        ("grpc.enable_channelz", int(channelz)),
        ("grpc.max_concurrent_streams", max_streams_per_connection),
        ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
        ("grpc.max_send_message_length", MAX_SEND_BYTES),
        # Below the clients' keepalive time, else the server answers their pings with GOAWAY too_many_pings.
        ("grpc.http2.min_ping_interval_without_data_ms", 2_500),
        ("grpc.http2.max_ping_strikes", 2),
        # A restart brings thousands of daemons at once, and one core does some hundred handshakes a second: who is thrown away after
        # its handshake was paid comes again, and the storm never ends. Slow strangers are bounded by the number of connections.
        ("grpc.server_handshake_timeout_ms", 60_000),
        ("grpc.http2.settings_timeout", 60_000),
        # TLS buffers are per connection and as large as a frame; a batch of a daemon is smaller.
        ("grpc.tsi.max_frame_size", 4_096),
        ("grpc.max_connection_age_ms", 3_600_000),
        ("grpc.max_connection_age_grace_ms", 30_000),
        ("grpc.max_connection_idle_ms", 300_000),
        # A restart brings all daemons at once; the defaults (1,000 and 3,000) reset streams then.
        ("grpc.server.max_pending_requests", 20_000),
        ("grpc.server.max_pending_requests_hard_limit", 30_000),
        ("grpc.max_allowed_incoming_connections", max(64, file_descriptors - 512)),
    ]


def tunnel_server_options(*, file_descriptors: int, max_streams_per_connection: int) -> Options:
    """Options of a listener for tunnels' connections. Its connections have no longest age: it would cut what goes through them."""
    options = server_options(file_descriptors=file_descriptors, max_streams_per_connection=max_streams_per_connection)
    return _for_tunnels(options, _TUNNEL_SERVER)


def tunnel_client_options(server_name: str | None = None) -> Options:
    """Options of a channel to a listener for tunnels' connections; ``server_name`` as for `client_options`."""
    return _for_tunnels(client_options(server_name), _TUNNEL_CLIENT)


def _for_tunnels(options: Options, windows: Options) -> Options:
    other = {name for name, _ in _TUNNELS}.union(_NOT_FOR_TUNNELS)
    return [(name, value) for name, value in options if name not in other] + _TUNNELS + windows


def with_lasting_calls(options: Options) -> Options:
    """For a listener whose calls may outlive their connection's longest age: the next calls take a new one, these go on.

    A tunnel is such a call. Whether its caller still may is looked at all the time, whatever the age of the connection.
    """
    grace = "grpc.max_connection_age_grace_ms"
    return [(name, _WITHOUT_END_MS if name == grace else value) for name, value in options]


def without_pings(options: Options) -> Options:
    """For a channel within one process: when it has no time for pings, it would cut itself off."""
    return [(name, value) for name, value in options if not any(word in name for word in ("ping", "keepalive"))]


def client_options(server_name: str | None = None) -> Options:
    """Options of a channel. ``server_name`` is the name that the server's certificate must carry, whatever address is dialled."""
    options: Options = [
        *_BOTH,
        ("grpc.max_receive_message_length", MAX_SEND_BYTES),
        ("grpc.initial_reconnect_backoff_ms", 500),
        # Not a pause: how long an attempt may take until TLS stands. A far way or a busy Master needs more than the first pause.
        ("grpc.min_reconnect_backoff_ms", 20_000),
        ("grpc.max_reconnect_backoff_ms", 5_000),
    ]
    if server_name is not None:
        options.append(("grpc.ssl_target_name_override", server_name))
    return options

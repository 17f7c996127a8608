"""Channels to the Master's listeners: verified by the roots of the identity, whatever address is dialled."""

from __future__ import annotations

import grpc
import grpc.aio

from tenantry.daemon.link.identity import Credential
from tenantry.protocol.names import listener_name
from tenantry.transport.settings import Options, client_options, tunnel_client_options

# Subchannels are shared within a process by default: a new attempt would then wait out the back-off of the one before.
# Retries of gRPC's own would multiply the attempts that the back-off of the link allows.
_ALONE: Options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]


def open_link_channel(address: str, trust_domain: str, bundle: bytes, credential: Credential) -> grpc.aio.Channel:
    """A mutually authenticated channel to the link listener."""
    credentials = grpc.ssl_channel_credentials(bundle, credential.private_key, credential.chain)
    return _open(address, listener_name("link", trust_domain), credentials)


def open_relay_channel(address: str, trust_domain: str, bundle: bytes, credential: Credential) -> grpc.aio.Channel:
    """A mutually authenticated channel to the relay listener: a connection of its own, which the link does not feel."""
    credentials = grpc.ssl_channel_credentials(bundle, credential.private_key, credential.chain)
    options = tunnel_client_options(listener_name("relay", trust_domain))
    return grpc.aio.secure_channel(address, credentials, options=[*options, *_ALONE])


def open_api_channel(address: str, trust_domain: str, bundle: bytes) -> grpc.aio.Channel:
    """A channel to the api listener; this end shows no certificate."""
    return _open(address, listener_name("api", trust_domain), grpc.ssl_channel_credentials(bundle))


def _open(address: str, name: str, credentials: grpc.ChannelCredentials) -> grpc.aio.Channel:
    return grpc.aio.secure_channel(address, credentials, options=[*client_options(name), *_ALONE])

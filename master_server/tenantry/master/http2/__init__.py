"""gRPC's side of a server over HTTP/2 and TLS, of our own: what carries the links.

``connection`` and what it stands on are bytes in, events and bytes out; ``tls`` is the same for TLS; ``peers``, ``calls`` and
``server`` are the asyncio around them. Services are registered as with gRPC's own server, and see gRPC's kind of context. Why there
is such a thing: docs/adr/0054.
"""

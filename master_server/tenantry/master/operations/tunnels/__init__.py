"""Tunnels on the Master: who may open one, what is signed for the Tenant, which two streams belong together, and how each ends.

`live` is one tunnel and its connections, `book` all of them and every way in which they end, `opening` the way in, `dialling` the
way to a connection, `accounts` what is written down. Everything lives on the event loop and knows neither gRPC nor the wire.
"""

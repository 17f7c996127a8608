"""Load for a Master under measurement: thousands of Tenants in one process, at a small part of what they cost the Master.

A Tenant here is a socket, a TLS object and three numbers. HTTP/2 and gRPC framing are written by hand (`http2`), because every
gRPC library costs its process more a message than the Master itself.
"""

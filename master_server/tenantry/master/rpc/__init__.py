"""The Master's gRPC services: wire <-> domain, and nothing else.

Failures leave as typed exceptions; one interceptor turns them into statuses.
"""

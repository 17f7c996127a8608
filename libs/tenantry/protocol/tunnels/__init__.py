"""Tunnels: what both ends, and the Master between them, hold to. Pure: bytes, credits and times go in, and out comes what to do."""

"""Benchmarks of the promises that Tenantry makes about speed and memory; see `python -m benchmarks --help`."""

"""Probes: what the daemon measures on its machine, with the names and units of OpenTelemetry's system metrics.

Where the conventions leave a choice: utilisations are ratios from 0 to 1 and are given for the *used* (busy) share only, so
that each is one number a thing; CPU modes are counters of seconds. Counters count since some start and fall back to 0 with
it. No series names a process, a connection or anything else without a bound.
"""

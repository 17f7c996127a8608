"""What finds that something is wrong, on the Master and on a Tenant alike: thresholds on event time.

Everything here is pure: no I/O, no clock, no randomness. Times are Unix milliseconds and come in as arguments.
"""

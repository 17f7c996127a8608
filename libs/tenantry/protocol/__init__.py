"""What both ends of Tenantry must agree on: failures, names, join strings, layouts, messages, delivery, the link.

Everything here is pure: no I/O, no clock, no randomness. Times are Unix milliseconds, or seconds of a monotonic clock
where a parameter is called ``now``; both come in as arguments.
"""

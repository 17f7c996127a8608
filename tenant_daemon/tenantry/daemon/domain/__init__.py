"""What the daemon deals in, as values and rules. Pure: no I/O, no clock, no randomness."""

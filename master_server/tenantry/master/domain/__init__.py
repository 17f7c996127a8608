"""The rules of the Master as values and tables: no I/O, no clock, no randomness."""

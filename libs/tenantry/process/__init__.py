"""What every program needs as an operating-system process: private files, durations, logs, service notification."""

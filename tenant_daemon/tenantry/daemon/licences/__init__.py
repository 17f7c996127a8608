"""The daemon's licence: what is installed or was handed out by a Master, whether it can be verified, and what it allows."""

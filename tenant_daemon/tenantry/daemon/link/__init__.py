"""The link to the Master: identity, channel, session, reconnecting, renewal, and why it does not work."""

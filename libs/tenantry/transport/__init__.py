"""gRPC-facing code that both ends share: settings, failures as statuses, and the link's messages on the wire."""

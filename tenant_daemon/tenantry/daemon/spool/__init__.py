"""The spool: records on this machine's own disk until the Master has them."""

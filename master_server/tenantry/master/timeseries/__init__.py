"""Codecs of stored metrics: segments (one group commit) and chunks (what compaction makes of them). Pure: no I/O."""

"""The Master's certificates on top of `cryptography`: authorities on disk, issuing, the trust bundle, who a peer is.

No database: what was issued is returned as a value, and rows are the business of the stores. Times are Unix
milliseconds (UTC); certificates know whole seconds, so what they say is rounded down.
"""

"""Licences with keys and files: issuers' keys, signing and verifying, whom an instance trusts, the machine's fingerprint."""

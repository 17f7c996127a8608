"""The Tenant daemon: measures its machine, keeps what it measured, and delivers it to its Master."""

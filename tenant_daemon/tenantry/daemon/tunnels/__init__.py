"""The Tenant's side of tunnels: this machine's own policy, the consent of its people, dialling, and the log of all of it."""

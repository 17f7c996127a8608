"""The operator's ends of tunnels: what listens here, and how each connection reaches its target at a Tenant."""

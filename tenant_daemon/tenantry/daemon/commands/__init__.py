"""The commands of `tenantry-daemon`, one module each."""

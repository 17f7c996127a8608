"""The commands of ``tenantry-master``: they prepare, check, start, save and restore a Master on this machine."""

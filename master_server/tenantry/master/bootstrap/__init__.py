"""Puts a Master together and runs it: the one package that knows every adapter.

`core` holds what lives as long as the Master, `listeners` its certificates and ports, `services` what is served on them,
`running` begins and ends it all, `process` is the program around it.
"""

from tenantry.master.bootstrap.process import run
from tenantry.master.bootstrap.running import RunningMaster, running_master

__all__ = ["RunningMaster", "run", "running_master"]

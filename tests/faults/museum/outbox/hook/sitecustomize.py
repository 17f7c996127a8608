"""Python imports this at the start of a process that has this folder on PYTHONPATH: it plants the bugs that are asked for."""

import os

from tests.faults.museum.outbox.bugs import BUGS

for _name in os.environ["TENANTRY_SEEDED_BUGS"].split(","):
    BUGS[_name]()

"""`probe`: what the probes say here and now."""

from __future__ import annotations

import argparse
import json
import time

from tenantry.daemon.config import Settings
from tenantry.daemon.probes.contract import measure
from tenantry.daemon.probes.discovery import discover_probes
from tenantry.protocol.failures import EXIT_NOT_FOUND, FieldInvalid

_PAUSE_S = 0.5  # between two reads: rates need a before


def execute(arguments: argparse.Namespace, settings: Settings) -> int:  # noqa: ARG001 - every command is called alike
    """Read and print."""
    discovery = discover_probes()
    probes = [probe for probe in discovery.probes if arguments.name in (None, probe.name)]
    if not probes:
        names = ", ".join(probe.name for probe in discovery.probes)
        raise FieldInvalid(field="name", problem=f"{arguments.name!r} is no probe", expected=f"one of {names}")
    for probe in probes:
        measure(probe)
    time.sleep(_PAUSE_S)
    measured = {probe.name: measure(probe) for probe in probes}
    if arguments.json:
        print(
            json.dumps(
                {
                    name: {
                        "readings": [
                            {
                                "name": one.name,
                                "unit": one.unit,
                                "kind": one.kind.value,
                                "labels": dict(one.labels),
                                "value": one.value,
                            }
                            for one in each.readings
                        ],
                        "notes": list(each.notes),
                    }
                    for name, each in measured.items()
                },
                indent=1,
            )
        )
        return 0
    for name, each in measured.items():
        print(f"{name}:")
        for one in each.readings:
            labels = " ".join(f"{label}={value}" for label, value in one.labels)
            print(f"  {one.name:<36} {one.value:>18.6g} {one.unit:<12} {labels}".rstrip())
        for note in each.notes:
            print(f"  note: {note}")
        if not each.readings and not each.notes:
            print("  nothing to measure on this machine")
    for fault in discovery.faults:
        print(f"skipped {fault.entry_point} of {fault.distribution}: {fault.problem}")
    return 0 if measured else EXIT_NOT_FOUND

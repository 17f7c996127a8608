"""`audit verify`: whether the Master's audit is what this Tenant has witnessed. Works whether or not the daemon runs."""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import sys
import time
from typing import Any

from tenantry.daemon.config import Settings
from tenantry.daemon.link.audit_proof import ChainProof, OwnHeads, ask_master, examine_own_heads, read_export
from tenantry.daemon.link.heads import HeadArchive
from tenantry.daemon.link.identity import IdentityFolder
from tenantry.protocol.audit_chain import Finding
from tenantry.protocol.failures import EXIT_CONFLICT, EXIT_LOCAL, EXIT_UNPROVEN, EXIT_UNREACHABLE


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print what is proven. Ends with 4 when something is not as it was witnessed, with 7 when the Master cannot be asked, and with 10
    when nothing that was witnessed is in the chain, so that nothing here vouches for it.
    """
    own = examine_own_heads(settings.data)
    proof, trouble = None, ""
    if not arguments.offline:
        try:
            proof = _prove(arguments, settings, own)
        except ConnectionError as error:
            trouble = str(error)
        except (OSError, ValueError) as error:
            print(f"tenantry-daemon: {error}", file=sys.stderr)
            return EXIT_LOCAL
    if arguments.records and proof is not None:
        for record in proof.own_records:
            print(record.decode())
    elif arguments.json:
        print(json.dumps(_report(own, proof, trouble), indent=1))
    else:
        print("\n".join(_lines(own, proof, trouble)))
    if own.problems or (proof is not None and proof.finding is not None):
        return EXIT_CONFLICT
    if trouble:
        return EXIT_UNREACHABLE
    vouched = proof.heads_met if proof is not None else len(own.heads)
    return 0 if vouched else EXIT_UNPROVEN


def _prove(arguments: argparse.Namespace, settings: Settings, own: OwnHeads) -> ChainProof:
    heads = own.of_present_history()
    if arguments.file is None:
        proof = asyncio.run(ask_master(settings.data, heads, _progress))
        # For `status` and the console of the daemon, which do not walk over the chain themselves.
        HeadArchive(settings.data).note_verification(_describe(proof.finding), time.time_ns() // 1_000_000)
        return proof
    with arguments.file.open("rb") as lines:
        return read_export(lines, IdentityFolder(settings.data).load().guid, heads, _progress)


def _describe(finding: Finding | None) -> str:
    return "" if finding is None else f"record {finding.sequence}: {finding.fault.value}; {finding.detail}"


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else "\r"
        print(f"{done:,} of {total:,} records", end=end, file=sys.stderr, flush=True)


def _report(own: OwnHeads, proof: ChainProof | None, trouble: str) -> dict[str, Any]:
    return {
        "heads": len(own.heads),
        "newest": None
        if own.newest is None
        else {"sequence": own.newest.sequence, "hash": own.newest.hash.hex(), "time_ms": own.newest.time_ms},
        "problems": own.problems,
        "master": None
        if proof is None
        else {
            "first": proof.first,
            "last": proof.last,
            "heads_met": proof.heads_met,
            "own_records": len(proof.own_records),
            "finding": None
            if proof.finding is None
            else {
                "fault": proof.finding.fault.value,
                "sequence": proof.finding.sequence,
                "detail": proof.finding.detail,
            },
        },
        "trouble": trouble,
    }


def _lines(own: OwnHeads, proof: ChainProof | None, trouble: str) -> list[str]:
    newest = own.newest
    lines = [f"witnessed    {len(own.heads)} heads, each signed by a key that the pinned authority vouches for"]
    if newest is None:
        lines = ["witnessed    nothing yet: the Master has not shown a head of its audit"]
    else:
        moment = dt.datetime.fromtimestamp(newest.time_ms / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        lines.append(f"newest       record {newest.sequence}, signed {moment}")
    lines += [f"PROBLEM      {problem}" for problem in own.problems]
    if trouble:
        lines.append(f"Master       cannot be asked: {trouble}")
    if proof is not None:
        if proof.finding is not None:
            lines.append(f"CONTRADICTS  {_describe(proof.finding)}")
        else:
            if proof.heads_met:
                lines.append(
                    f"proven       records {proof.first} to {proof.last} contain {proof.heads_met} of the heads"
                )
            else:
                lines.append(
                    f"NOT PROVEN   records {proof.first} to {proof.last} fit together, and contain none of our heads"
                )
            lines.append(f"about us     {len(proof.own_records)} records, with content (--records prints them)")
        if proof.heads_before:
            lines.append(f"erased       {proof.heads_before} heads are older than what the Master keeps")
    return lines

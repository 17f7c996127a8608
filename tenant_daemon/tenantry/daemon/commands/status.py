"""`status`: how the daemon is, also when it does not run."""

from __future__ import annotations

import argparse
import json
import sqlite3
import time
from typing import Any

from tenantry.daemon.commands.moments import ago, moment
from tenantry.daemon.config import Settings
from tenantry.daemon.control.client import ask
from tenantry.daemon.domain.failures import DaemonNotRunning
from tenantry.daemon.licences.folder import LicenceFolder, describe_kept
from tenantry.daemon.link.heads import HeadArchive
from tenantry.daemon.link.identity import IdentityFolder
from tenantry.daemon.spool.database import SpoolDamaged
from tenantry.daemon.spool.store import read_book
from tenantry.process.durations import format_milliseconds
from tenantry.protocol.failures import EXIT_UNREACHABLE

_TIMEOUT_S = 10.0
_WORTH_TELLING_MS = 2_000


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print it. Ends with 7 when no daemon runs."""
    try:
        report = ask(settings.data, {"command": "status"}, _TIMEOUT_S)
    except DaemonNotRunning:
        report = _read_folder(settings)
    if arguments.json:
        print(json.dumps(report, indent=1))
    else:
        print("\n".join(_lines(report)))
    return 0 if report["running"] else EXIT_UNREACHABLE


def _read_folder(settings: Settings) -> dict[str, Any]:
    """What can be said without the daemon. Raises NotJoined, IdentityDamaged."""
    folder = IdentityFolder(settings.data)
    licence = describe_kept(LicenceFolder(settings.data), time.time_ns() // 1_000_000)
    if (settings.data / "stand-alone").is_dir() and not (settings.data / "identity.json").exists():
        return {"running": False, "stand_alone": True, "link": None, "licence": licence, "spool": {}}
    identity = folder.load()
    credential = folder.credentials()[0]
    doubt = HeadArchive(settings.data).doubt()
    try:
        waiting: int | None = sum(one.next_seq - 1 - one.acknowledged for one in read_book(settings.data / "spool.db"))
    except (sqlite3.Error, SpoolDamaged):
        waiting = None
    return {
        "running": False,
        "guid": identity.guid,
        "trust_domain": identity.trust_domain,
        "link": {
            "connected": False,
            "address": identity.link_addresses[0],
            "certificate": {"serial": credential.serial, "not_after_ms": credential.not_after_ms},
        },
        "audit": {
            "judgement": "contradicts" if doubt else None,
            "sequence": None,
            "detail": doubt,
            "judged_ms": None,
        },
        "licence": licence,
        "spool": {"unacknowledged_records": waiting},
    }


def _lines(report: dict[str, Any]) -> list[str]:
    alone = report.get("stand_alone", False)
    lines = [
        _line("daemon", f"running (process {report['pid']}, version {report['version']})")
        if report["running"]
        else _line("daemon", "not running"),
        _line("mode", "stand-alone, without a Master") if alone else _line("tenant", report["guid"]),
    ]
    if not alone:
        lines += _describe_tenancy(report)
    licence = report.get("licence")
    if licence is not None:
        lines.append(_line("licence", _describe_licence(licence)))
    lines.append(_line("history" if alone else "spool", _describe_spool(report["spool"], alone=alone)))
    console = report.get("console")
    if console is not None and console["enabled"]:
        where = (
            "open it with `tenantry-daemon console`" if console["trouble"] is None else f"none: {console['trouble']}"
        )
        lines.append(_line("console", where))
    tunnels = report.get("tunnels")
    if tunnels is not None:
        lines += _describe_tunnels(tunnels)
    for name, probe in report.get("probes", {}).items():
        when = "not read yet" if probe["read_ms"] is None else f"{probe['readings']} readings {ago(probe['read_ms'])}"
        lines.append(_line(f"probe {name}", f"every {probe['interval_s']:g} s, {when}"))
        lines += [_line("", f"note: {note}") for note in probe["notes"]]
    return lines


def _describe_tenancy(report: dict[str, Any]) -> list[str]:
    """What a daemon with a Master has: a state, settings, a link, a witness of the audit, a certificate."""
    link, lines = report["link"], []
    if report["running"]:
        lines.append(_line("state", report["state"]))
        lines.append(_line("settings", _describe_configuration(report["configuration"])))
        lines.append(_line("link", _describe_link(link)))
        offset_ms = link["clock_offset_ms"]
        if offset_ms is not None and abs(offset_ms) >= _WORTH_TELLING_MS:
            how = "ahead of" if offset_ms > 0 else "behind"
            lines.append(_line("clock", f"{format_milliseconds(abs(offset_ms) // 1000 * 1000)} {how} the Master's"))
        if link["trouble"] is not None:
            lines += [_line("trouble", link["trouble"]["message"]), _line("", link["trouble"]["hint"])]
    audit = report.get("audit")
    if audit is not None and audit["judgement"] is not None:
        text = audit["detail"] or f"record {audit['sequence']} witnessed {ago(audit['judged_ms'])}"
        lines.append(_line("audit", text))
    certificate = link["certificate"]
    if certificate is not None:
        lines.append(_line("certificate", f"{certificate['serial']}, until {moment(certificate['not_after_ms'])}"))
    return lines


def _describe_tunnels(tunnels: dict[str, Any]) -> list[str]:
    policy, held, waiting = tunnels["policy"], tunnels["held"], tunnels["waiting"]
    text = f"{len(held) - len(waiting)} open"
    if waiting:
        text += f"; {len(waiting)} wait for consent: see `tenantry-daemon consent list`"
    lines = [_line("tunnels", text)]
    if policy["trouble"]:
        lines.append(_line("", f"NONE IS ALLOWED: {policy['file']}: {policy['trouble']}"))
    else:
        entries = policy["entries"]
        allowed = (
            [f"{entries} {'entry' if entries == 1 else 'entries'} of {policy['file']}"] if policy["exists"] else []
        )
        allowed += ["the local console"] if policy["console"] else []
        lines.append(_line("", f"allowed: {', '.join(allowed) or 'nothing'}; consent {policy['consent']}"))
    trouble = tunnels["log"]["trouble"]
    return [*lines, _line("", f"the log of tunnels cannot be written: {trouble}")] if trouble else lines


def _describe_spool(spool: dict[str, Any], *, alone: bool) -> str:
    if alone:
        if "bytes" not in spool:
            return "on the disk"
        return f"{spool['bytes'] / (1 << 20):.1f} of {spool['capacity_bytes'] / (1 << 20):.0f} MiB"
    waiting = spool["unacknowledged_records"]
    text = "cannot be read" if waiting is None else f"{waiting} records wait"
    if "bytes" in spool:
        text += f", {spool['bytes'] / (1 << 20):.1f} of {spool['capacity_bytes'] / (1 << 20):.0f} MiB"
        if spool["oldest_unacknowledged_ms"] is not None:
            text += f", oldest of {moment(spool['oldest_unacknowledged_ms'])}"
    return text


def _describe_licence(licence: dict[str, Any]) -> str:
    origin = "handed out by the Master" if licence["origin"] == "handed" else "this machine's own"
    purpose = ", for evaluation" if licence["evaluation"] else ""
    end = moment(licence["not_after_ms"])
    text = f"{licence['serial']}, {origin}{purpose}, until {end}"
    return text if licence["in_force"] else f"{text}: not in force; what runs goes on"


def _line(name: str, text: str) -> str:
    return f"{name:<18}{text}".rstrip()


def _describe_configuration(configuration: dict[str, Any]) -> str:
    text = f"version {configuration['running_version']}"
    if configuration["failed_version"]:
        text += f"; version {configuration['failed_version']} was refused: {configuration['failure']}"
    return text


def _describe_link(link: dict[str, Any]) -> str:
    if link["connected"]:
        text = f"connected to {link['address']} since {moment(link['since_ms'])}"
        if link["acknowledged_ms"] is not None:
            text += f", last acknowledgement {ago(link['acknowledged_ms'])}"
        return text
    text = f"not connected to {link['address']}"
    if link["reconnect_ms"] is not None:
        left_ms = max(0, link["reconnect_ms"] - time.time_ns() // 1_000_000)
        text += f"; next attempt in {format_milliseconds(left_ms // 1000 * 1000)}"
    return text

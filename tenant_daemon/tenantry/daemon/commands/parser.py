"""The command line of `tenantry-daemon`."""

from __future__ import annotations

import argparse
from pathlib import Path

EXIT_CODES = """\
exit codes:
  0  done            3  not found        6  denied (key, certificate, quarantine)
  1  internal error  4  conflict         7  not reachable (Master, or no daemon runs)
  2  wrong usage     5  wrong state      8  limit      9  this machine's files
"""


def make_parser() -> argparse.ArgumentParser:
    """The parser; `command` of its result names the module to run."""
    parser = argparse.ArgumentParser(
        prog="tenantry-daemon",
        description="The Tenant's side of Tenantry: measures this machine and delivers what it measured to its Master.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    _add_settings(parser, None)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_join(commands)
    run = commands.add_parser(
        "run", help="run in the foreground until SIGTERM", description="Run until SIGTERM or SIGINT."
    )
    run.add_argument(
        "--stand-alone",
        action="store_true",
        help="without a Master, with a stand-alone licence: measure, judge by the local rules, keep it all on this machine",
    )
    status = commands.add_parser("status", help="show how the daemon is", description="Show how the daemon is.")
    status.add_argument("--json", action="store_true", help="as one JSON object")
    console = commands.add_parser(
        "console",
        help="print a link that opens the local console in a browser",
        description="Print a link that opens the running daemon's local console once, within five minutes, in a browser on this "
        "machine (or at the other end of a tunnel to its port: then put that port into the link).",
    )
    console.add_argument("--json", action="store_true", help="as one JSON object")
    _add_leave(commands)
    probe = commands.add_parser(
        "probe", help="read the probes once and print what they say", description="Read the probes once, here and now."
    )
    probe.add_argument("name", nargs="?", help="only this one")
    probe.add_argument("--json", action="store_true", help="as JSON")
    notification = commands.add_parser(
        "notify",
        help="send a notification to the Master's operators",
        description="Hand a notification to the running daemon, which delivers it to the Master.",
    )
    notification.add_argument("--level", default="info", help="info (default), warning or error")
    notification.add_argument("--source", required=True, help="which part of this machine says so")
    notification.add_argument("text", help="what, for people")
    records = commands.add_parser(
        "records",
        help="show the newest alerts or notifications of this machine",
        description="Show the newest alerts or notifications that the running daemon still has on its disk.",
    )
    records.add_argument("stream", choices=["alerts", "notifications"], help="which of the two")
    records.add_argument("--limit", type=int, default=20, metavar="N", help="at most so many (20)")
    records.add_argument("--json", action="store_true", help="as JSON")
    _add_consent(commands)
    _add_tunnels(commands)
    _add_license(commands)
    _add_audit(commands)
    for command in commands.choices.values():
        # The same flags after the command; there they have no default, which would overwrite what stood before it.
        _add_settings(command, argparse.SUPPRESS)
    return parser


def _add_settings(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        default=default,
        help="the data folder (TENANTRY_DAEMON_DATA; /var/lib/tenantry-daemon)",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=default,
        help="the settings (TENANTRY_DAEMON_CONFIG; /etc/tenantry/daemon.toml)",
    )
    parser.add_argument("--log-level", metavar="LEVEL", default=default, help="debug, info, warning or error")


def _add_join(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    join = commands.add_parser(
        "join",
        help="join a Master with the join string that it printed",
        description="Join a Master. The join string or the enrolment key is read from a file or from standard input, never "
        "from the command line, where every user of this machine could see it. Repeating it after a lost "
        "answer is safe for ten minutes.",
    )
    join.add_argument(
        "join_string", nargs="?", metavar="-", help="read the join string from standard input (the default)"
    )
    join.add_argument("--key-file", type=Path, metavar="FILE", help="read the join string, or the key, from this file")
    join.add_argument("--guid", help="the Tenant's GUID (then only the key is read)")
    join.add_argument("--host", help="the Master's host")
    join.add_argument("--port", type=int, default=443, help="the Master's port (443)")
    join.add_argument("--ca-fingerprint", metavar="SHA256", help="fingerprint of the Master's root certificate")
    join.add_argument("--ca-file", type=Path, metavar="FILE", help="the Master's root certificate, PEM")
    join.add_argument(
        "--trust-domain", default="tenantry.internal", help="the Master's trust domain (tenantry.internal)"
    )


def _add_consent(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    consent = commands.add_parser(
        "consent",
        help="say yes or no to tunnels that wait for it",
        description="Where the policy for tunnels wants it, a tunnel waits until somebody at this machine says yes.",
    )
    consent.set_defaults(json=False)
    actions = consent.add_subparsers(dest="action", metavar="ACTION")
    show = actions.add_parser("list", help="show what is asked")
    show.add_argument("--json", action="store_true", help="as JSON")
    for name, text in (("allow", "say yes"), ("deny", "say no")):
        answer = actions.add_parser(name, help=text)
        answer.add_argument("tunnel", metavar="TUNNEL", help="the id of the tunnel, or how it begins")
    for action in actions.choices.values():
        _add_settings(action, argparse.SUPPRESS)


def _add_tunnels(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    tunnels = commands.add_parser(
        "tunnels",
        help="show and end operators' tunnels, read the log of them",
        description="Tunnels by which operators reach this machine, or others from here, as its policy allows.",
    )
    tunnels.set_defaults(json=False)
    actions = tunnels.add_subparsers(dest="action", metavar="ACTION")
    show = actions.add_parser("list", help="show those that are open or wait for consent")
    show.add_argument("--json", action="store_true", help="as JSON")
    close = actions.add_parser("close", help="end one, with all its connections")
    close.add_argument("tunnel", metavar="TUNNEL", help="the id of the tunnel, or how it begins")
    log = actions.add_parser("log", help="show this machine's log of tunnels, the oldest first")
    log.add_argument("--connections", action="store_true", help="the connections through them")
    log.add_argument("--tunnel", metavar="TUNNEL", default="", help="only this one: its id, or how it begins")
    log.add_argument("--limit", type=int, default=100, metavar="N", help="the newest N lines (100)")
    log.add_argument("--json", action="store_true", help="as JSON lines")
    check = actions.add_parser("check", help="read the policy file and say what is wrong with it")
    check.add_argument("target", nargs="*", metavar="HOST:PORT", help="and whether it allows this")
    for action in actions.choices.values():
        _add_settings(action, argparse.SUPPRESS)


def _add_audit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    audit = commands.add_parser(
        "audit",
        help="verify the Master's audit by what this Tenant has witnessed",
        description="Prove the heads of the Master's audit chain that this Tenant keeps, and that the Master's present audit contains "
        "them. Ends with 4 when it does not.",
    )
    audit.add_argument("action", choices=["verify"], help="verify")
    audit.add_argument("--offline", action="store_true", help="only the heads, without asking the Master")
    audit.add_argument(
        "--file", type=Path, metavar="FILE", help="an export of the audit (tenantry audit export) instead of the Master"
    )
    audit.add_argument("--json", action="store_true", help="as one JSON object")
    audit.add_argument(
        "--records", action="store_true", help="print the proven records about this Tenant, one JSON a line"
    )


def _add_license(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    licence = commands.add_parser(
        "license",
        help="request, install and show this machine's licence",
        description="This machine's licence. A Tenant is handed one by its Master when it joins, and may have its own; a daemon "
        "without a Master needs a stand-alone licence.",
    )
    actions = licence.add_subparsers(dest="action", metavar="ACTION", required=True)
    request = actions.add_parser("request", help="write the request for an issuer")
    request.add_argument("file", nargs="?", type=Path, metavar="FILE", help="into this file (standard output)")
    request.add_argument("--kind", choices=["stand-alone", "tenant"], default="stand-alone", help="(stand-alone)")
    request.add_argument("--holder", default="", metavar="NAME", help="for whom it shall be")
    request.add_argument(
        "--module", action="append", default=[], metavar="NAME", help="for this module; may be repeated"
    )
    install = actions.add_parser("install", help="install a licence file; its issuer must be trusted here")
    install.add_argument("file", type=Path, metavar="FILE")
    show = actions.add_parser("show", help="show what is installed or was handed out, and whether it is genuine")
    show.add_argument("--json", action="store_true", help="as JSON")
    trust = actions.add_parser("trust", help="let the licences of an issuer count here")
    trust.add_argument("file", type=Path, metavar="FILE", help="its public key (`tenantry license issuer export`)")
    distrust = actions.add_parser("distrust", help="let the licences of an issuer's key count nothing here, for good")
    distrust.add_argument("kid", metavar="KEY-ID")
    actions.add_parser("remove", help="remove this machine's own licence")


def _add_leave(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    leave = commands.add_parser(
        "leave",
        help="say goodbye to the Master and stop the daemon",
        description="Tell the Master why this Tenant goes away and until when, then stop the daemon.",
    )
    leave.add_argument("--for", dest="duration", metavar="DURATION", help="until when, from now: 30m, 2h, 1d")
    leave.add_argument(
        "--reason", choices=["stop", "reboot", "upgrade", "maintenance"], default="stop", help="why (stop)"
    )
    leave.add_argument("--note", default="", help="free text for the operators")

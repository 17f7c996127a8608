"""`join`: enrol at a Master."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import sys
from pathlib import Path

from tenantry.daemon.config import Settings
from tenantry.daemon.domain.failures import FileUnusable
from tenantry.daemon.link.certificates import check_trust_bundle
from tenantry.daemon.link.enrolment import JoinOrder, join
from tenantry.daemon.link.identity import IdentityFolder
from tenantry.daemon.measuring import leased_folder
from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.joining import KEY_PREFIX, check_fingerprint, parse_secret
from tenantry.protocol.names import check_guid, check_trust_domain

_LONGEST_SECRET = 16 * 1024


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Join, and say what was joined."""
    order = _order(arguments)
    with leased_folder(settings.data) as path:
        identity = asyncio.run(join(IdentityFolder(path), order))
    print(f"Joined {order.host} as {identity.guid}. Start the daemon with `tenantry-daemon run`.")
    return 0


def _order(arguments: argparse.Namespace) -> JoinOrder:
    if arguments.join_string not in (None, "-"):
        raise FieldInvalid(
            field="join string",
            problem="stands on the command line, where every user of this machine can read it",
            expected="`-` for standard input, or --key-file FILE",
        )
    by_parts = arguments.guid is not None or arguments.host is not None
    secret = _read_secret(arguments.key_file, "Enrolment key: " if by_parts else "Join string: ")
    if not by_parts:
        return JoinOrder.from_string(secret)
    if arguments.guid is None or arguments.host is None:
        raise FieldInvalid(field="--guid and --host", problem="go together", expected="both of them")
    if (arguments.ca_fingerprint is None) == (arguments.ca_file is None):
        raise FieldInvalid(
            field="--ca-fingerprint",
            problem="is needed to recognise the Master",
            expected="either --ca-fingerprint or --ca-file",
        )
    key = parse_secret(secret.strip(), KEY_PREFIX)
    if key is None:
        raise FieldInvalid(
            field="key", problem="is no enrolment key", expected=f"{KEY_PREFIX}_… as the Master printed it"
        )
    if not 1 <= arguments.port <= 65_535:
        raise FieldInvalid(field="--port", problem=f"is {arguments.port}", expected="1 to 65535")
    fingerprint = (
        "" if arguments.ca_fingerprint is None else check_fingerprint(arguments.ca_fingerprint, "--ca-fingerprint")
    )
    return JoinOrder(
        check_guid(arguments.guid, "--guid"),
        key.text,
        arguments.host,
        arguments.port,
        check_trust_domain(arguments.trust_domain, "--trust-domain"),
        fingerprint,
        "" if arguments.ca_file is None else _read_certificate(arguments.ca_file),
    )


def _read_secret(file: Path | None, prompt: str) -> str:
    if file is None:
        return getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.read(_LONGEST_SECRET)
    try:
        return file.read_text(encoding="utf-8")[:_LONGEST_SECRET]
    except (OSError, UnicodeDecodeError) as error:
        raise FileUnusable(path=str(file), problem=getattr(error, "strerror", None) or "it is no text") from None


def _read_certificate(file: Path) -> str:
    try:
        text = file.read_text(encoding="ascii")
        check_trust_bundle(text)
    except OSError as error:
        raise FileUnusable(path=str(file), problem=error.strerror or type(error).__name__) from None
    except ValueError:
        raise FileUnusable(path=str(file), problem="it holds no root certificate in PEM") from None
    return text

"""`license`: request, install, show and remove this machine's licence; say whose licences count here."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from tenantry.daemon.config import Settings
from tenantry.daemon.domain.failures import FileUnusable
from tenantry.daemon.licences.folder import LicenceFolder
from tenantry.process.files import FileExposed, private_directory, write_public
from tenantry.protocol.failures import EXIT_NOT_FOUND
from tenantry.protocol.licences import MAX_TEXT, LicenceKind, LicenceRequest, encode_request


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do one of them. Raises LicenceInvalid and other failures."""
    try:
        folder = LicenceFolder(private_directory(settings.data))
        return {
            "request": _request,
            "install": _install,
            "show": _show,
            "trust": _trust,
            "distrust": _distrust,
            "remove": _remove,
        }[arguments.action](arguments, folder)
    except FileExposed as exposed:
        raise FileUnusable(path=str(exposed.path), problem=f"{exposed.problem}; {exposed.remedy}") from None
    except OSError as error:
        raise FileUnusable(path=str(error.filename), problem=error.strerror or type(error).__name__) from None


def _request(arguments: argparse.Namespace, folder: LicenceFolder) -> int:
    asked = LicenceRequest(
        LicenceKind(arguments.kind),
        folder.fingerprint(),
        _now_ms(),
        arguments.holder,
        modules=tuple(sorted(set(arguments.module))),
    )
    text = encode_request(asked)
    if arguments.file is None:
        print(text, end="")
    else:
        write_public(arguments.file.absolute(), text.encode("ascii"))
        print(f"The request is in {arguments.file}; `tenantry license issue` makes a licence from it.")
    return 0


def _install(arguments: argparse.Namespace, folder: LicenceFolder) -> int:
    from tenantry.daemon.licences.verifying import check_installable, describe_moment

    text = _read(arguments.file)
    licence = check_installable(text, folder, _now_ms())
    folder.store_own(text)
    print(f"Installed {licence.serial}: {licence.kind.value}, until {describe_moment(licence.not_after_ms)}.")
    return 0


def _show(arguments: argparse.Namespace, folder: LicenceFolder) -> int:
    from tenantry.daemon.licences.verifying import describe_moment, judge

    judged, now_ms = judge(folder), _now_ms()
    report = {
        "fingerprint": folder.fingerprint(),
        "licences": [
            {
                "origin": one.origin,
                "serial": one.licence.serial if one.licence is not None else None,
                "kind": one.licence.kind.value if one.licence is not None else None,
                "holder": one.licence.holder if one.licence is not None else None,
                "not_after_ms": one.licence.not_after_ms if one.licence is not None else None,
                "in_force": one.licence is not None and not one.problem and one.licence.in_force(now_ms),
                "problem": one.problem,
            }
            for one in judged
        ],
        "issuers": [
            {
                "kid": one.issuer.kid,
                "name": one.issuer.name,
                "kinds": sorted(kind.value for kind in one.kinds),
                "revoked_ms": one.revoked_ms,
            }
            for one in folder.issuers.read()
        ],
    }
    if arguments.json:
        print(json.dumps(report, indent=1))
        return 0
    print(f"fingerprint  {report['fingerprint']}")
    for one in judged:
        if one.licence is None:
            print(f"{one.origin:<12} counts nothing: {one.problem}")
            continue
        ended = "" if one.licence.in_force(now_ms) else " (not in force)"
        state = one.problem or f"until {describe_moment(one.licence.not_after_ms)}{ended}"
        print(f"{one.origin:<12} {one.licence.serial}, {one.licence.kind.value}, {one.licence.holder}: {state}")
    if not judged:
        print("licence      none is installed, and no Master handed one out")
    for known in folder.issuers.read():
        state = "trusted" if known.revoked_ms is None else "revoked"
        print(f"issuer       {known.issuer.kid} {state} for {', '.join(sorted(known.kinds))}: {known.issuer.name}")
    return 0


def _trust(arguments: argparse.Namespace, folder: LicenceFolder) -> int:
    from tenantry.licensing.issuers import decode_issuer

    issuer = decode_issuer(_read(arguments.file))
    private_directory(folder.path)
    folder.issuers.trust(issuer, _now_ms())
    print(f"Licences of {issuer.name} (key {issuer.kid}) count here now.")
    return 0


def _distrust(arguments: argparse.Namespace, folder: LicenceFolder) -> int:
    revoked = folder.issuers.revoke(arguments.kid, _now_ms())
    print(f"Licences of the key {arguments.kid} of {revoked.issuer.name} count nothing here any more.")
    return 0


def _remove(_arguments: argparse.Namespace, folder: LicenceFolder) -> int:
    if not folder.remove_own():
        print("There is no licence of this machine's own.")
        return EXIT_NOT_FOUND
    print("Removed this machine's own licence.")
    return 0


def _read(file: Path) -> str:
    with file.open("rb") as source:
        return source.read(MAX_TEXT + 1).decode("ascii", "replace")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

"""An issuer of licences for tests: one key a process, in a file as `tenantry license issuer create` writes it."""

import atexit
import functools
import shutil
import tempfile
import time
from pathlib import Path

from tenantry.licensing.signing import IssuerKey, generate_issuer, issue, load_issuer_key, store_issuer_key
from tenantry.protocol.licences import DAY_MS, LicenceKind, LicenceRequest

TENANTS = 100_000
DAYS = 3_650


@functools.cache
def issuer_key_file() -> Path:
    """The key's file; it goes with the process."""
    folder = Path(tempfile.mkdtemp(prefix="tenantry-issuer-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "issuer.json"
    store_issuer_key(path, generate_issuer("Test issuer"), None)
    return path


@functools.cache
def issuer_key() -> IssuerKey:
    """The key itself."""
    return load_issuer_key(issuer_key_file(), None)


def licensed(*arguments: str) -> tuple[str, ...]:
    """What `tenantry-master init` needs to begin with a licence for all that tests do, unless ``arguments`` say otherwise."""
    if {"--evaluation", "--issuer-key"} & set(arguments):
        return arguments
    limits = ("--license-tenants", str(TENANTS), "--license-days", str(DAYS))
    return (*arguments, "--issuer-key", str(issuer_key_file()), *limits)


def licence_for(
    fingerprint: str,
    kind: LicenceKind = LicenceKind.MASTER,
    *,
    tenants: int = 0,
    begins_ms: int | None = None,
    lifetime_ms: int = 30 * DAY_MS,
    key: IssuerKey | None = None,
) -> str:
    """The text of a licence of the test issuer (or of another key), from ``begins_ms`` on."""
    now_ms = time.time_ns() // 1_000_000
    return issue(
        LicenceRequest(kind, fingerprint, now_ms),
        key or issuer_key(),
        holder="Test holder",
        lifetime_ms=lifetime_ms,
        now_ms=now_ms,
        not_before_ms=begins_ms,
        tenants=tenants,
    )

"""What `run` looks at before it listens, and `config check` reports: files, clock, certificates, ports, the store."""

import errno
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tenantry.master.commands.findings import FAILED, OK, WARNING, Finding, failed
from tenantry.master.commands.markers import UNFINISHED
from tenantry.master.commands.stores import check_store
from tenantry.master.config import MasterConfig, split_listen
from tenantry.master.console.certificate import CertificateFiles, CertificateUnusable
from tenantry.master.console.pages import BUILT, START
from tenantry.master.operations.clocks import wall_ms
from tenantry.master.pki.authority import AuthorityFolder
from tenantry.protocol.failures import EXIT_CONFLICT, EXIT_LOCAL

_DAY_MS: Final = 86_400_000
_SOON_MS: Final = 60 * _DAY_MS
_ROOM: Final = 256 << 20
# The year in which this was written: a clock before it is wrong, and would issue certificates that nobody accepts.
_EARLIEST_MS: Final = 1_767_225_600_000


def check_machine(config: MasterConfig) -> list[Finding]:
    """All checks that do not touch the store. Raises nothing for what it finds."""
    return [
        *_check_folder(config.data_dir),
        _check_clock(),
        *_check_authorities(config),
        *_check_ports(config),
        *_check_monitoring(config),
        *_check_console(config),
    ]


def check_all(config: MasterConfig) -> list[Finding]:
    """All checks. While a Master runs with this store, its ports being taken is no failure."""
    store = check_store(config)
    running = any(finding.exit_code == EXIT_CONFLICT for finding in store)
    machine = check_machine(config)
    if running:
        machine = [_as_running(finding) for finding in machine]
        store = [_as_running(finding) for finding in store]
    return [*machine, *store]


def _as_running(finding: Finding) -> Finding:
    if finding.exit_code != EXIT_CONFLICT:
        return finding
    return Finding(WARNING, finding.subject, f"{finding.detail} (a Master is running)")


def _check_folder(path: Path) -> Iterator[Finding]:
    subject = "data folder"
    try:
        status = path.stat()
    except FileNotFoundError:
        yield Finding(FAILED, subject, f"{path} does not exist", "Run `tenantry-master init`.", EXIT_LOCAL)
        return
    except OSError as error:
        yield Finding(FAILED, subject, f"{path}: {error.strerror}", "Run it as the user of the Master.", EXIT_LOCAL)
        return
    if not stat.S_ISDIR(status.st_mode):
        yield Finding(FAILED, subject, f"{path} is no folder", "Name a folder with --data.", EXIT_LOCAL)
    elif status.st_uid != os.geteuid():
        detail = f"{path} belongs to user id {status.st_uid}, this is user id {os.geteuid()}"
        yield Finding(FAILED, subject, detail, "Run it as the user that `init` was run as.", EXIT_LOCAL)
    elif status.st_mode & 0o077:
        detail = f"{path} has mode {stat.S_IMODE(status.st_mode):04o}"
        yield Finding(FAILED, subject, detail, f"Run chmod 700 {path}", EXIT_LOCAL)
    else:
        yield Finding(OK, subject, str(path))
        yield _check_room(path)
        for marker, command in UNFINISHED.items():
            if (path / marker).exists():
                hint = f"Repeat `tenantry-master {command}`."
                yield Finding(FAILED, subject, f"`{command}` was interrupted in {path}", hint, EXIT_LOCAL)


def _check_room(path: Path) -> Finding:
    room = os.statvfs(path)
    free = room.f_bavail * room.f_frsize
    text = f"{free >> 20} MiB free"
    return (
        Finding(WARNING, "disk", text, "Make room: a full disk stops the Master.")
        if free < _ROOM
        else Finding(OK, "disk", text)
    )


def _check_clock() -> Finding:
    now = wall_ms()
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now / 1000))
    if now < _EARLIEST_MS:
        return Finding(FAILED, "clock", f"{shown} cannot be", "Set this machine's clock.", EXIT_LOCAL)
    return Finding(OK, "clock", shown)


def _check_authorities(config: MasterConfig) -> Iterator[Finding]:
    folder = AuthorityFolder(config.pki_dir)
    now = wall_ms()
    ids = folder.ids() if config.pki_dir.exists() else []
    if not ids:
        yield Finding(
            FAILED, "authorities", f"there are none in {config.pki_dir}", "Run `tenantry-master init`.", EXIT_LOCAL
        )
    for name in ids:
        subject = f"authority {name}"
        try:
            authority = folder.load(name)
        except Exception as error:  # noqa: BLE001 - each kind of trouble becomes a finding
            yield failed(subject, error)
            continue
        left = authority.intermediate_not_after - now
        detail = f"issues for {left // _DAY_MS} days" if left > 0 else "its intermediate has ended"
        hint = "Run `tenantry-master ca renew-intermediate`."
        if left <= 0:
            yield Finding(FAILED, subject, detail, hint, EXIT_LOCAL)
        else:
            yield Finding(WARNING if left < _SOON_MS else OK, subject, detail, hint if left < _SOON_MS else "")


def _check_ports(config: MasterConfig) -> Iterator[Finding]:
    for key, address in config.listeners():
        problem = _try_port(*split_listen(address))
        if problem is None:
            yield Finding(OK, key, f"{address} is free")
        else:
            code, text, hint = problem
            yield Finding(FAILED, key, f"{address}: {text}", hint, code)


def _try_port(host: str, port: int) -> tuple[int, str, str] | None:
    """Listen for a moment; the exit code, the problem and a hint when that fails."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        return EXIT_LOCAL, f"the name cannot be resolved ({error.strerror})", "Write an address of this machine."
    with socket.socket(family, kind, protocol) as listener:
        # As gRPC does: a port in TIME_WAIT is free, one that is listened on is not.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(1)
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            hint = (
                "Stop the program that listens there, or set another port." if taken else "Set another address or port."
            )
            return EXIT_CONFLICT if taken else EXIT_LOCAL, error.strerror or str(error), hint
    return None


def _check_monitoring(config: MasterConfig) -> Iterator[Finding]:
    if config.monitoring_listen is None:
        return
    host = split_listen(config.monitoring_listen)[0]
    if host not in ("127.0.0.1", "::1", "localhost"):
        detail = f"{config.monitoring_listen} is not loopback: everybody who reaches it can read the figures"
        yield Finding(WARNING, "monitoring_listen", detail, "Listen on 127.0.0.1, behind a proxy that asks who comes.")


def _check_console(config: MasterConfig) -> Iterator[Finding]:
    if config.console_listen is None:
        return
    chain, key = config.console_certificate_file, config.console_key_file
    if chain is not None and key is not None:
        try:
            CertificateFiles(chain, key).newest()
        except CertificateUnusable as error:
            yield failed("console_certificate_file", error)
        else:
            yield Finding(OK, "console_certificate_file", f"{chain} fits its key")
    if not (BUILT / START).exists():
        yield Finding(WARNING, "console_listen", "the console is not built", "Run `make console` in the checkout.")

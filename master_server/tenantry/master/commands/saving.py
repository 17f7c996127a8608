"""``tenantry-master backup`` and ``restore``."""

import contextlib
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tenantry.master.commands.markers import RESTORING
from tenantry.master.commands.options import DATA, configured
from tenantry.master.commands.outcomes import CommandRefused
from tenantry.master.config import CONFIG_NAME, DEFAULT_DATA_DIR, MasterConfig, load
from tenantry.process.failpoints import failpoint
from tenantry.process.files import private_directory, sync_directory, write_private
from tenantry.protocol.failures import EXIT_CONFLICT

if TYPE_CHECKING:
    from tenantry.master.commands.archives import Archive, Manifest

_STAGED = ".store-of-the-backup"
_SHARES = 1_000


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@configured
def backup(config: MasterConfig, file: Path) -> None:
    """Save a Master, running or not, into the new FILE: store, certificate authority and configuration.

    It is written into the audit before it begins: who has a backup has what the Master has.
    The file appears only when it is complete. It holds private keys: it has mode 0600, keep it as safe as the Master.
    """
    from tenantry.master.commands.deeds import write_down
    from tenantry.master.commands.stores import instance_of

    if file.exists():
        raise CommandRefused(f"{str(file)!r} exists already", "Name a new file.", EXIT_CONFLICT)
    instance = instance_of(config)
    write_down(config, "master.backup", file=_shown(file))
    # Beside the target, so that the rename at the end is atomic and the room is the same disk's.
    work = private_directory(file.absolute().parent / f".{file.name}.{secrets.token_hex(8)}.partial")
    try:
        unfinished = _collect(config, instance, work)
        unfinished.rename(file.absolute())
        sync_directory(file.absolute().parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    click.echo(f"saved {file} ({file.stat().st_size >> 10} KiB); it holds private keys", err=True)


def _shown(file: Path) -> str:
    """A path as a record may have it."""
    text = str(file.absolute())[-150:]
    return "".join(one if one.isprintable() else "\ufffd" for one in text)


def _collect(config: MasterConfig, instance: str, work: Path) -> Path:
    """The finished archive, inside `work`."""
    from importlib.metadata import version

    from tenantry.master.commands.archives import (
        CONFIG,
        LICENCE_ISSUERS,
        SECOND_FACTOR_KEY,
        STORE,
        Manifest,
        measure,
        write_archive,
    )
    from tenantry.master.operations.clocks import wall_ms
    from tenantry.master.sql.backup import copy_running

    created = wall_ms()
    with _steps("copying the store") as progress:
        copy_running(config.dsn, work / STORE, progress)
    sources = {STORE: work / STORE}
    # After the store: an authority that was made meanwhile is one too many, which does no harm.
    for path in sorted(config.pki_dir.glob("*/*")):
        # A dot begins what is still being written.
        if not path.parent.name.startswith(".") and not path.name.startswith("."):
            sources[f"pki/{path.parent.name}/{path.name}"] = path
    if (config.data_dir / CONFIG_NAME).exists():
        sources[CONFIG] = config.data_dir / CONFIG_NAME
    if config.second_factor_key.exists():
        sources[SECOND_FACTOR_KEY] = config.second_factor_key
    if config.issuers_file.exists():
        sources[LICENCE_ISSUERS] = config.issuers_file
    total = sum(path.stat().st_size for path in sources.values())
    with _progress("saving", 2 * total) as advance:
        members = {name: measure(path, advance) for name, path in sources.items()}
        kind = config.dsn.partition(":")[0].partition("+")[0]
        manifest = Manifest(created, version("tenantry"), instance, kind, config.trust_domain, members)
        write_archive(work / "archive", manifest, sources, advance)
    return work / "archive"


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@DATA
@click.option(
    "--dsn-file",
    metavar="FILE",
    help="A file of mode 0600 with the URL of an empty database to restore into [default: as configured in the backup].",
)
def restore(file: Path, data: Path | None, dsn_file: str | None) -> None:
    """Restore the backup FILE into an empty data folder and an empty database.

    The Master keeps its identity: Tenants come back by themselves and send again what they still hold.
    """
    from tenantry.master.commands.archives import open_archive

    folder = (data or DEFAULT_DATA_DIR).absolute()
    with open_archive(file) as archive:
        size = sum(member.size for member in archive.manifest.members.values())
        with _progress("verifying", size) as advance:
            archive.verify(advance)
        _prepare(folder)
        with _progress("restoring", size) as advance:
            _place(archive, folder, advance)
        failpoint("restore.after_files")
        config = _configure(folder, dsn_file)
        _fill_store(config, folder)
        failpoint("restore.after_store")
        (folder / RESTORING).unlink()
        sync_directory(folder)
        _print_consequences(archive.manifest, config)


def _prepare(folder: Path) -> None:
    """An empty folder with the marker; what an interrupted restore put there is removed."""
    private_directory(folder)
    entries = {entry.name for entry in folder.iterdir()}
    if entries and RESTORING not in entries:
        raise CommandRefused(
            f"{str(folder)!r} is not empty",
            "Restore into an empty folder, and keep this one until all is well.",
            EXIT_CONFLICT,
        )
    write_private(folder / RESTORING, b"")
    for entry in folder.iterdir():
        if entry.name != RESTORING:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _place(archive: "Archive", folder: Path, advance: Callable[[int], None]) -> None:
    from tenantry.master.commands.archives import STORE

    def target(name: str) -> Path:
        if name == STORE:
            return folder / _STAGED
        if name.startswith("pki/"):
            private_directory(folder / "pki")
            private_directory((folder / name).parent)
        if name.startswith("licensing/"):
            private_directory((folder / name).parent)
        return folder / name

    archive.extract(target, advance)


def _configure(folder: Path, dsn_file: str | None) -> MasterConfig:
    """The restored configuration, with another database where one was named."""
    path = folder / CONFIG_NAME
    file = path if path.exists() else None
    flags: dict[str, object] = {"data_dir": str(folder)}
    if dsn_file is not None:
        flags["dsn_file"] = dsn_file
        # What this shell's environment says is not what was saved.
        saved = load(flags, file=file, environment={})
        write_private(path, saved.as_toml(set(saved.origins) - {"data_dir", "dsn"}).encode())
    return load(flags, file=file)


def _fill_store(config: MasterConfig, folder: Path) -> None:
    from tenantry.master.commands.tokens import audited
    from tenantry.master.operations.clocks import wall_ms
    from tenantry.master.sql.backup import restore_into
    from tenantry.master.sql.database import Database

    now = wall_ms()
    with _steps("filling the store") as progress:
        restore_into(config.dsn, folder / _STAGED, restored_at_ms=now, progress=progress)
    with Database.open(config.dsn) as database, database.write() as transaction:
        transaction.records.append([audited("master.restore", now)])
    (folder / _STAGED).unlink()


def _print_consequences(manifest: "Manifest", config: MasterConfig) -> None:
    saved = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(manifest.created_ms / 1000))
    click.echo(
        f"""
Restored the Master {manifest.instance_id} as it was at {saved} into {config.data_dir}.
Make sure that the Master that was saved never runs again: there would be two with one identity.

What happens when it starts (tenantry-master run --data {config.data_dir}):
- Tenants that were enrolled at that time come back without joining again. They send again what they still
  hold; what is gone is declared in the gap ledger (`tenantry gaps`).
- What was done after that time is undone and has to be repeated: revoked certificates and tokens OPEN
  AGAIN, deleted Tenants are back, Tenants that were created or re-keyed since have to be created or
  re-keyed again (`tenantry tenant rekey`), moves between states are forgotten.""",
        err=True,
    )


@contextlib.contextmanager
def _steps(label: str) -> Iterator[Callable[[int, int], None]]:
    """The same for work that tells how much is done of how much."""
    with _progress(label, _SHARES) as advance:
        shown = 0

        def report(done: int, total: int) -> None:
            nonlocal shown
            share = _SHARES * done // max(total, 1)
            advance(share - shown)
            shown = share

        yield report


@contextlib.contextmanager
def _progress(label: str, size: int) -> Iterator[Callable[[int], None]]:
    """A progress bar of `size` bytes on a terminal, one line elsewhere."""
    with click.progressbar(
        length=max(size, 1), label=label, file=sys.stderr, update_min_steps=max(size // 200, 1)
    ) as bar:
        yield bar.update

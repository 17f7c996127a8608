"""Looking at a store without changing it, and opening one for work on a stopped Master."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from tenantry.master.commands.findings import FAILED, OK, WARNING, Finding, failed
from tenantry.master.commands.outcomes import CommandRefused
from tenantry.master.config import MasterConfig
from tenantry.master.operations.authorities import standings
from tenantry.master.pki.authority import AuthorityFolder
from tenantry.master.pki.trust import load_trust
from tenantry.master.sql.changes import ChangeLog
from tenantry.master.sql.database import Database
from tenantry.master.sql.engines import check_durability, kind_of, make_engine, parse_dsn, sqlite_path
from tenantry.master.sql.lease import lease_file, lease_session
from tenantry.master.sql.migrating import HEAD, check_known, present_revisions
from tenantry.master.sql.refusals import StoreRefused, StoreUnreachable
from tenantry.master.sql.transaction import Transaction
from tenantry.master.sql.troubles import trouble
from tenantry.master.sql.wall import INSIDE, is_held
from tenantry.protocol.failures import EXIT_LOCAL

INSTANCE_ID: Final = "instance_id"
TRUST_DOMAIN: Final = "trust_domain"


@contextmanager
def stopped_master(config: MasterConfig) -> Iterator[Database]:
    """The store of an initialised Master that does not run. Raises CommandRefused, StoreRefused."""
    url = parse_dsn(config.dsn)
    if kind_of(url) == "sqlite" and not sqlite_path(url).exists():
        raise no_master(config)
    with Database.open(config.dsn) as database:
        with database.read() as transaction:
            known = transaction.settings.get(INSTANCE_ID)
        if known is None:
            raise no_master(config)
        yield database


def instance_of(config: MasterConfig) -> str:
    """The instance id of a Master that may be running. Raises CommandRefused, StoreRefused."""
    with beside_master(config) as transaction:
        return transaction.settings.get(INSTANCE_ID) or ""


@contextmanager
def beside_master(config: MasterConfig) -> Iterator[Transaction]:
    """A look into the store of an initialised Master that may be running. Raises CommandRefused, StoreRefused."""
    url = parse_dsn(config.dsn)
    if kind_of(url) == "sqlite" and not sqlite_path(url).exists():
        raise no_master(config)
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            connection.execution_options(**INSIDE)
            present = present_revisions(connection)
            transaction = Transaction(connection, ChangeLog())
            if not present or transaction.settings.get(INSTANCE_ID) is None:
                raise no_master(config)
            yield transaction
    except SQLAlchemyError as error:
        cause = trouble(error)
        if cause is None:
            raise
        raise StoreUnreachable(cause) from error
    finally:
        engine.dispose()


def no_master(config: MasterConfig) -> CommandRefused:
    """The refusal of what needs an initialised Master."""
    return CommandRefused(f"there is no Master in {config.data_dir} yet", "Run `tenantry-master init`.", EXIT_LOCAL)


def check_store(config: MasterConfig) -> list[Finding]:
    """Whether the store can be reached, is nobody's, durable, and belongs to the authorities on disk; changes nothing."""
    subject = "store"
    lease = None
    try:
        url = parse_dsn(config.dsn)
        if kind_of(url) == "sqlite":
            if not sqlite_path(url).exists():
                detail = f"there is no database {sqlite_path(url)}"
                return [Finding(FAILED, subject, detail, "Run `tenantry-master init`.", EXIT_LOCAL)]
            lease = lease_file(sqlite_path(url))
        engine = make_engine(url)
    except StoreRefused as error:
        return [failed(subject, error)]
    try:
        return list(_look(config, engine))
    except StoreRefused as error:
        return [failed(subject, error)]
    except SQLAlchemyError as error:
        cause = trouble(error)
        if cause is None:
            raise
        return [failed(subject, StoreUnreachable(cause))]
    finally:
        engine.dispose()
        if lease is not None:
            lease.release()


def _look(config: MasterConfig, engine: Engine) -> Iterator[Finding]:
    with engine.connect() as connection:
        connection.execution_options(**INSIDE)
        walled = None
        if connection.dialect.name == "postgresql":
            lease_session(connection, None, 0)
            walled = is_held(connection)
        present = present_revisions(connection)
        connection.rollback()
        check_durability(connection)
        connection.rollback()
        yield _check_version(present)
        if walled is not None:
            yield _check_wall(walled)
        if present:
            yield from _check_content(config, connection)


def _check_version(present: set[str]) -> Finding:
    if present != {HEAD}:
        check_known(present)
        detail = "its schema is older than this program" if present else "it is empty"
        return Finding(WARNING, "store", detail, "`tenantry-master run` migrates it; make a backup first.")
    return Finding(OK, "store", "reachable, durable, schema is current")


def _check_wall(walled: bool) -> Finding:
    if walled:
        return Finding(OK, "row-level security", "binds the Master's role")
    detail = "does not bind the Master's role: a superuser, or one with BYPASSRLS, passes through it"
    return Finding(WARNING, "row-level security", detail, "Use an ordinary role that owns the database.")


def _check_content(config: MasterConfig, connection: Connection) -> Iterator[Finding]:
    transaction = Transaction(connection, ChangeLog())
    instance = transaction.settings.get(INSTANCE_ID)
    if instance is None:
        yield Finding(FAILED, "store", "it belongs to no Master yet", "Run `tenantry-master init`.", EXIT_LOCAL)
        return
    yield Finding(OK, "instance", instance)
    domain = transaction.settings.get(TRUST_DOMAIN)
    if domain is not None and domain != config.trust_domain:
        detail = f"is {config.trust_domain}, but all certificates are of {domain}"
        yield Finding(FAILED, "trust_domain", detail, "Set trust_domain back.", EXIT_LOCAL)
    try:
        trust = load_trust(AuthorityFolder(config.pki_dir), standings(transaction))
    except Exception as error:  # noqa: BLE001 - each kind of trouble becomes a finding
        yield failed("trust", error)
    else:
        yield Finding(OK, "trust", f"CA fingerprint {', '.join(trust.bundle.fingerprints)}")

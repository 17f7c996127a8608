"""A transaction: the stores over one connection."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from tenantry.master.sql.alerts import AlertStore
from tenantry.master.sql.audit_chain import AuditChainStore, ChainEnd
from tenantry.master.sql.authorities import AuthorityStore
from tenantry.master.sql.certificates import CertificateStore
from tenantry.master.sql.changes import ChangeLog
from tenantry.master.sql.chunks import ChunkStore
from tenantry.master.sql.deliveries import DeliveryStore
from tenantry.master.sql.gaps import GapStore
from tenantry.master.sql.groups import GroupStore
from tenantry.master.sql.keys import KeyStore
from tenantry.master.sql.layouts import LayoutStore
from tenantry.master.sql.licences import LicenceStore
from tenantry.master.sql.machine_certificates import MachineCertificateStore
from tenantry.master.sql.marks import MarkBook, MarkStore
from tenantry.master.sql.receivers import ReceiverStore
from tenantry.master.sql.records import RecordStore
from tenantry.master.sql.role_bindings import RoleBindingStore
from tenantry.master.sql.rule_states import RuleStateStore
from tenantry.master.sql.rules import RuleStore
from tenantry.master.sql.savepoints import savepoint
from tenantry.master.sql.segments import SegmentStore
from tenantry.master.sql.settings import SettingStore
from tenantry.master.sql.sign_in_sources import SignInSourceStore
from tenantry.master.sql.tenants import TenantStore
from tenantry.master.sql.tokens import TokenStore
from tenantry.master.sql.tunnels import TunnelStore
from tenantry.master.sql.users import UserStore
from tenantry.master.sql.windows import WindowStore


class Transaction:
    """All stores, as they are in one snapshot. Not to be used after its ``with`` block, nor by two threads at a time.

    ``connection`` is for work on whole tables, such as a backup's.
    """

    __slots__ = (
        "_changes",
        "_connection",
        "alerts",
        "audit",
        "authorities",
        "certificates",
        "chunks",
        "connection",
        "deliveries",
        "gaps",
        "groups",
        "keys",
        "layouts",
        "licences",
        "machine_certificates",
        "marks",
        "receivers",
        "records",
        "role_bindings",
        "rule_states",
        "rules",
        "segments",
        "settings",
        "sign_in_sources",
        "tenants",
        "tokens",
        "tunnels",
        "users",
        "windows",
    )

    def __init__(
        self,
        connection: Connection,
        changes: ChangeLog,
        audit_end: ChainEnd | None = None,
        marks: MarkBook | None = None,
    ) -> None:
        """What the last transaction has left, if it still holds: where the chain of the audit ends, and what it knew of marks."""
        self._changes = changes
        self._connection = connection
        self.connection = connection
        self.tenants = TenantStore(connection, changes)
        self.keys = KeyStore(connection)
        self.users = UserStore(connection, changes)
        self.groups = GroupStore(connection, changes)
        self.role_bindings = RoleBindingStore(connection, changes)
        self.tokens = TokenStore(connection, changes)
        self.machine_certificates = MachineCertificateStore(connection, changes)
        self.sign_in_sources = SignInSourceStore(connection)
        self.certificates = CertificateStore(connection)
        self.authorities = AuthorityStore(connection)
        self.settings = SettingStore(connection)
        self.audit = AuditChainStore(connection, self.settings, audit_end)
        self.records = RecordStore(connection, changes, self.audit)
        self.alerts = AlertStore(connection, changes)
        self.gaps = GapStore(connection)
        self.marks = MarkStore(connection, marks)
        self.layouts = LayoutStore(connection)
        self.licences = LicenceStore(connection)
        self.rules = RuleStore(connection, changes)
        self.rule_states = RuleStateStore(connection, changes)
        self.segments = SegmentStore(connection, changes)
        self.chunks = ChunkStore(connection)
        self.tunnels = TunnelStore(connection)
        self.windows = WindowStore(connection)
        self.receivers = ReceiverStore(connection)
        self.deliveries = DeliveryStore(connection, changes)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part of the transaction that is undone alone when its block raises.

        Raises StoreUnavailable where the database has given up the whole transaction, as SQLite does on a full disk: whatever
        came after would be committed without what came before.
        """
        tip, marks = self.audit.tip, self.marks.tip
        try:
            with savepoint(self._connection):
                yield
        except BaseException:
            self.audit.rewind(tip)
            self.marks.rewind(marks)
            self._changes.doubt_tenants()
            raise

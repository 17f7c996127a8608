"""A Master in which every Tenant's data carries a word of its own: whoever is shown the word has been shown the Tenant."""

from dataclasses import dataclass

from tenantry.master.domain.access import Role, RoleBinding
from tenantry.master.domain.people import Group, User
from tenantry.master.domain.records import NewGap, NewRecord, StreamName
from tenantry.master.sql.database import Database
from tenantry.master.sql.tenants import NewTenant
from tenantry.master.sql.transaction import Transaction
from tenantry.master.timeseries.frames import Frame, FrameTable
from tenantry.master.timeseries.segments import encode_segment
from tenantry.protocol.layouts import Series, SeriesKind, make_layout
from tenantry.protocol.messages import Configuration, LossReason, Stream
from tests.servers.master import MasterProcess

NOW = 1_800_000_000_000


@dataclass(frozen=True)
class Marked:
    """A Tenant and its word; ``people`` is the word of those who hold a role there."""

    guid: str
    word: str
    people: str = "folknowhere"


OWN = Marked("00000000-0000-4000-8000-00000000000a", "canaryown", "folkown")
FOREIGN = Marked("00000000-0000-4000-8000-00000000000b", "canaryforeign", "folkforeign")
MISSING = Marked("00000000-0000-4000-8000-00000000000f", "canarymissing")
MAIN_WORD = "canarymain"


def lay_out(master: MasterProcess, dsn: str | None = None) -> None:
    """Write both Tenants and their data, and records of the main tenant, into the store of a Master that does not run.

    ``dsn``: of a Master that keeps it elsewhere than in its data folder.
    """
    with Database.open(dsn or f"sqlite:///{master.data / 'master.db'}") as database, database.write() as transaction:
        for marked in (OWN, FOREIGN):
            tenant = transaction.tenants.insert(
                NewTenant(
                    marked.guid,
                    f"name {marked.word}",
                    f"instance {marked.word}",
                    f"text {marked.word}",
                    (f"tag-{marked.word}",),
                    (f"{marked.word}@example.org",),
                    Configuration(disabled_probes=(marked.word,)),
                    NOW,
                )
            )
            _people_of(transaction, marked, tenant.id)
            transaction.records.append([_record(stream, tenant.id, marked.word) for stream in StreamName])
            transaction.gaps.append(
                [
                    NewGap(tenant.id, stream, marked.word.encode()[:16], 1, 2, LossReason.SPOOL_FULL, marked.word, NOW)
                    for stream in Stream
                ]
            )
            layout = make_layout(
                [Series(f"metric.{marked.word}", marked.word, SeriesKind.GAUGE, (("k", marked.word),))]
            )
            number = transaction.layouts.insert_missing([layout])[layout.id]
            segment = encode_segment(FrameTable.of_frames([Frame(tenant.id, number, 1, NOW, (NOW,), b"\x00" * 8)]))
            transaction.segments.append(
                segment.data, received_ms=NOW, frames=1, samples=segment.summary.samples, first_ms=NOW, last_ms=NOW
            )
        transaction.records.append([_record(stream, None, MAIN_WORD) for stream in StreamName])


def _people_of(transaction: Transaction, marked: Marked, owner: int) -> None:
    """A user and a group with another one, who hold a role at the Tenant."""
    first, second = [
        transaction.users.insert(
            User(0, f"{kind}-{marked.people}", f"{kind} {marked.people}", f"{kind}@{marked.people}.example", NOW)
        )
        for kind in ("user", "member")
    ]
    group = transaction.groups.insert(Group(0, f"group {marked.people}", marked.people, "", NOW))
    transaction.groups.add(group.id, second.id, external=False)
    for user_id, group_id in ((first.id, None), (None, group.id)):
        transaction.role_bindings.insert(
            RoleBinding(0, user_id, group_id, owner, Role.JUNIOR_ANALYST, NOW, marked.people)
        )


def _record(stream: StreamName, tenant_id: int | None, word: str) -> NewRecord:
    return NewRecord(stream, NOW, NOW, tenant_id, {"text": word, word: word, "actor": word})

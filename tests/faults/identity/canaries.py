"""A Master in which every Tenant's data carries a word of its own: whoever is shown the word has been shown the Tenant."""

from dataclasses import dataclass

from tenantry.master.domain.records import NewGap, NewRecord, StreamName
from tenantry.master.sql.database import Database
from tenantry.master.sql.tenants import NewTenant
from tenantry.master.timeseries.frames import Frame, FrameTable
from tenantry.master.timeseries.segments import encode_segment
from tenantry.protocol.layouts import Series, SeriesKind, make_layout
from tenantry.protocol.messages import Configuration, LossReason, Stream
from tests.servers.master import MasterProcess

NOW = 1_800_000_000_000


@dataclass(frozen=True)
class Marked:
    """A Tenant and its word."""

    guid: str
    word: str


OWN = Marked("00000000-0000-4000-8000-00000000000a", "canaryown")
FOREIGN = Marked("00000000-0000-4000-8000-00000000000b", "canaryforeign")
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


def _record(stream: StreamName, tenant_id: int | None, word: str) -> NewRecord:
    return NewRecord(stream, NOW, NOW, tenant_id, {"text": word, word: word, "actor": word})

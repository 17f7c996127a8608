"""What lives as long as a Master does: its store, what it knows of Tenants, links and people, and the thread that writes."""

import asyncio
import importlib.metadata
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from tenantry.licensing.issuers import TrustFile
from tenantry.licensing.signing import IssuerKey, generate_issuer, load_issuer_key, store_issuer_key
from tenantry.master.bootstrap.outbox import Outbox, make_outbox
from tenantry.master.bootstrap.tunnels import Tunnels, make_tunnels
from tenantry.master.config import MasterConfig
from tenantry.master.domain.connectivity import Thresholds
from tenantry.master.monitoring.figures import CertificateRole, MasterMetrics
from tenantry.master.operations.audit_calls import CallLedger
from tenantry.master.operations.audit_heads import AuditSealer, History
from tenantry.master.operations.authorities import TrustKeeper, standings
from tenantry.master.operations.boards import BoardKeeper, load_board
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.deliveries import Decoders, LayoutDirectory
from tenantry.master.operations.evaluating import RuleEvaluator
from tenantry.master.operations.following import StreamHub
from tenantry.master.operations.ingesting import Ingest
from tenantry.master.operations.licensing import LicenceBook
from tenantry.master.operations.links import LinkDirectory
from tenantry.master.operations.register import TenantRegister
from tenantry.master.operations.ruling import install_builtin_rules
from tenantry.master.operations.sessions import SessionTerms, TokenUses
from tenantry.master.operations.tunnels.accounts import end_unfinished
from tenantry.master.operations.usage import UsageReader
from tenantry.master.operations.viewers import ViewerDirectory, load_signed_in
from tenantry.master.operations.visibility import Visibility
from tenantry.master.operations.window_judging import WindowJudge
from tenantry.master.pki.audit_key import AuditSigner, HeadProver, load_audit_key
from tenantry.master.pki.authority import AuthorityFolder
from tenantry.master.pki.trust import load_trust
from tenantry.master.pki.tunnel_key import TunnelSigner, load_tunnel_key
from tenantry.master.rpc.alike_frames import read_alike_frames
from tenantry.master.rpc.reading import StoreReader
from tenantry.master.sql.changes import Changes
from tenantry.master.sql.database import Database
from tenantry.process.files import private_directory
from tenantry.transport.records import decode_alert, decode_frame, decode_notification


@dataclass(frozen=True, slots=True)
class Opened:
    """An open store, and those who hear of each commit."""

    database: Database
    changes: "asyncio.Queue[Changes]"
    viewers: ViewerDirectory
    rules: RuleEvaluator
    windows: WindowJudge
    deliveries: asyncio.Event
    """Set when there may be something new to tell receivers."""


@dataclass(frozen=True, slots=True)
class Core:
    """The parts that services and background jobs share."""

    config: MasterConfig
    clocks: Clocks
    store: Opened
    version: str
    instance_id: str
    restored_ms: int | None
    metrics: MasterMetrics
    register: TenantRegister
    visibility: Visibility
    links: LinkDirectory
    layouts: LayoutDirectory
    usage: UsageReader
    committer: Committer
    reader: StoreReader
    keeper: TrustKeeper
    licences: LicenceBook
    history: History
    sealer: AuditSealer
    calls: CallLedger
    terms: SessionTerms
    uses: TokenUses
    tunnels: Tunnels
    boards: BoardKeeper
    outbox: Outbox
    hub: StreamHub = field(default_factory=StreamHub)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


def load_core(config: MasterConfig, clocks: Clocks, store: Opened, renew_listeners: Callable[[], None]) -> Core:
    """The core of a Master as its store and its folder have it. Raises what `load_trust` and reading keys raise."""
    database, version = store.database, importlib.metadata.version("tenantry")
    with database.write() as transaction:
        install_builtin_rules(transaction, lambda: str(uuid.uuid4()), clocks.wall_ms())
        end_unfinished(transaction, clocks.wall_ms())
    with database.read() as transaction:
        restored = transaction.settings.get("restored_at_ms")
        instance_id = transaction.settings.get("instance_id") or ""
        store.viewers.refresh(load_signed_in(transaction), store.viewers.announced)
        register = TenantRegister(transaction.tenants.all())
        numbers = transaction.layouts.all_ids()
        known = transaction.layouts.load(list(numbers.values()))
        newest_received_ms = max(transaction.segments.newest_received_ms(), transaction.chunks.newest_received_ms())
        authorities = standings(transaction)
        board = load_board(transaction)
    folder = AuthorityFolder(config.pki_dir)
    trust = load_trust(folder, authorities)
    restored_ms = int(restored) if restored else None

    metrics, links = MasterMetrics(version), LinkDirectory()
    layouts, usage = LayoutDirectory(), UsageReader()
    layouts.learn((layout.id, number, len(layout.series)) for number, layout in known.items())
    usage.learn(known)
    decoders = Decoders(decode_frame, decode_alert, decode_notification, read_alike_frames)
    ingest = Ingest(decoders, layouts, newest_received_ms, store.rules)
    committer = Committer(database, ingest, clocks, asyncio.get_running_loop(), metrics)
    keeper = TrustKeeper(folder, trust, config.trust_domain, committer, register, links, clocks, renew_listeners)
    history = History(instance_id, restored_ms or 0)
    signer = AuditSigner(load_audit_key(config.pki_dir), config.trust_domain)
    sealer = AuditSealer(
        committer,
        links,
        clocks,
        history,
        lambda head: signer.sign(head, keeper.trust.issuing),
        HeadProver(folder, config.trust_domain).prove,
        config.audit_head_interval,
    )
    tunnel_signer = TunnelSigner(load_tunnel_key(config.pki_dir), config.trust_domain)
    tunnels = make_tunnels(config, tunnel_signer, keeper, committer, links, clocks, metrics)
    metrics.watch(links=lambda: len(links), queued_bytes=lambda: committer.queued_bytes)
    metrics.set_certificate_end(CertificateRole.INTERMEDIATE, trust.issuing.intermediate_not_after)
    metrics.set_certificate_end(CertificateRole.ROOT, trust.issuing.root_not_after)
    terms = SessionTerms(config.session_lifetime, config.session_idle, config.second_factor_required)
    return Core(
        config=config,
        clocks=clocks,
        store=store,
        version=version,
        instance_id=instance_id,
        restored_ms=restored_ms,
        metrics=metrics,
        register=register,
        visibility=Visibility(register),
        links=links,
        layouts=layouts,
        usage=usage,
        committer=committer,
        reader=StoreReader(database),
        keeper=keeper,
        licences=LicenceBook(TrustFile(config.issuers_file).read, _licence_key(config, instance_id)),
        history=history,
        sealer=sealer,
        calls=CallLedger(committer, clocks, register),
        terms=terms,
        uses=TokenUses(terms),
        tunnels=tunnels,
        outbox=make_outbox(config, database, committer, clocks, metrics, store.deliveries),
        boards=BoardKeeper(board, Thresholds(config.stale_after, config.lost_after), config.heartbeat_interval),
    )


def _licence_key(config: MasterConfig, instance_id: str) -> IssuerKey:
    """The key with which this Master signs what it hands out under its licence. One that was lost is replaced: daemons learn it."""
    path = config.handed_licences_key
    if path.exists():
        return load_issuer_key(path, None)
    key = generate_issuer(f"Master {instance_id}")
    private_directory(config.licensing_dir)
    store_issuer_key(path, key, None)
    return key

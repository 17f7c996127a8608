"""A Master in which every Tenant's data carries a word of its own: whoever is shown the word has been shown the Tenant."""

from dataclasses import dataclass, replace

from tenantry.detection.levels import Level
from tenantry.master.domain.access import MAIN_OWNER, SHARED_OWNER, Role, RoleBinding
from tenantry.master.domain.alerts import AlertChange, AlertSource, ChangeKind, Firing, RecordCopy, fill, opened
from tenantry.master.domain.deliveries import NewDelivery
from tenantry.master.domain.people import Group, User
from tenantry.master.domain.privacy import OPEN, Privacy, PrivacyKind
from tenantry.master.domain.receivers import ReceiverDraft, WebhookSettings
from tenantry.master.domain.records import NewGap, NewRecord, StreamName
from tenantry.master.domain.rules import Action, ActionKind, Condition, LabelCondition, Limit, RuleDraft
from tenantry.master.domain.tunnels import Tunnel
from tenantry.master.domain.windows import Recurring, Scope, WindowDraft
from tenantry.master.sql.alerts import PlacedCopy
from tenantry.master.sql.database import Database
from tenantry.master.sql.tenants import NewTenant
from tenantry.master.sql.transaction import Transaction
from tenantry.master.timeseries.frames import Frame, FrameTable
from tenantry.master.timeseries.segments import encode_segment
from tenantry.protocol.layouts import Series, SeriesKind, make_layout
from tenantry.protocol.messages import Configuration, LossReason, Stream
from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState
from tenantry.protocol.tunnels.targets import Target
from tests.servers.master import MasterProcess

NOW = 1_800_000_000_000


@dataclass(frozen=True)
class Marked:
    """A Tenant, its word, and the ids of its rule and of its tunnel; ``people`` is the word of those who hold a role there."""

    guid: str
    word: str
    rule: str
    tunnel: str
    people: str = "folknowhere"
    receiver: str = ""
    delivery: str = ""
    alert: str = ""
    window: str = ""

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the Tenant and of all that is its own."""
        return (self.guid, self.rule, self.tunnel, self.receiver, self.delivery, self.alert, self.window)


OWN = Marked(
    "00000000-0000-4000-8000-00000000000a",
    "canaryown",
    "00000000-0000-4000-8000-0000000000aa",
    "00000000-0000-4000-8000-000000000aaa",
    "folkown",
    "00000000-0000-4000-8000-00000000aaaa",
    "00000000-0000-4000-8000-0000000aaaaa",
    "00000000-0000-4000-8000-000000aaaaaa",
    "00000000-0000-4000-8000-00000aaaaaaa",
)
FOREIGN = Marked(
    "00000000-0000-4000-8000-00000000000b",
    "canaryforeign",
    "00000000-0000-4000-8000-0000000000bb",
    "00000000-0000-4000-8000-000000000bbb",
    "folkforeign",
    "00000000-0000-4000-8000-00000000bbbb",
    "00000000-0000-4000-8000-0000000bbbbb",
    "00000000-0000-4000-8000-000000bbbbbb",
    "00000000-0000-4000-8000-00000bbbbbbb",
)
MISSING = Marked(
    "00000000-0000-4000-8000-00000000000f",
    "canarymissing",
    "00000000-0000-4000-8000-0000000000ff",
    "00000000-0000-4000-8000-000000000fff",
    receiver="00000000-0000-4000-8000-00000000ffff",
    delivery="00000000-0000-4000-8000-0000000fffff",
    alert="00000000-0000-4000-8000-000000ffffff",
    window="00000000-0000-4000-8000-00000fffffff",
)
MAIN_WORD = "canarymain"
SHARED_WORD = "canaryshared"
PRIVATE_WORD = "canaryprivate"
"""In a rule of the own Tenant that is private to nobody who calls."""
RULE_NAME = "rule"
"""Of a rule of each owner: that a name is taken elsewhere must tell nothing."""


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
                segment.data,
                received_ms=NOW + tenant.id,
                frames=1,
                samples=segment.summary.samples,
                first_ms=NOW,
                last_ms=NOW,
            )
            _keep_rule(transaction, marked.rule, marked.word, tenant.id)
            transaction.tunnels.insert(_tunnel(marked, tenant.id))
            _keep_alert(transaction, marked.alert, marked.word, tenant.id)
            transaction.windows.insert(marked.window, tenant.id, _window(marked.word), marked.word, NOW)
            number = _keep_receiver(transaction, marked.receiver, marked.word, tenant.id)
            transaction.deliveries.insert([_delivery(marked.delivery, marked.word, tenant.id, number, tenant.id)])
            if marked is OWN:
                private = Privacy(PrivacyKind.PRIVATE, frozenset(), {}, keeper=1_000_000)
                _keep_rule(transaction, f"{PRIVATE_WORD} id", PRIVATE_WORD, tenant.id, private)
                _keep_receiver(transaction, f"{PRIVATE_WORD} id", PRIVATE_WORD, tenant.id, private)
        transaction.records.append([_record(stream, None, MAIN_WORD) for stream in StreamName])
        _keep_alert(transaction, f"{MAIN_WORD} id", MAIN_WORD, MAIN_OWNER)
        transaction.windows.insert(f"{MAIN_WORD} id", MAIN_OWNER, _window(MAIN_WORD), MAIN_WORD, NOW)
        _keep_rule(transaction, f"{MAIN_WORD} id", MAIN_WORD, MAIN_OWNER)
        _keep_rule(transaction, f"{SHARED_WORD} id", SHARED_WORD, SHARED_OWNER)
        _keep_receiver(transaction, f"{SHARED_WORD} id", SHARED_WORD, SHARED_OWNER)
        number = _keep_receiver(transaction, f"{MAIN_WORD} id", MAIN_WORD, MAIN_OWNER)
        own = transaction.tenants.get(OWN.guid).id
        transaction.deliveries.insert([_delivery(f"{MAIN_WORD} id", MAIN_WORD, MAIN_OWNER, number, own)])


def _tunnel(marked: Marked, tenant_id: int) -> Tunnel:
    """One that is over: an open one would have ended with the Master that held it."""
    return Tunnel(
        id=marked.tunnel,
        tenant_id=tenant_id,
        operator=f"operator {marked.word}",
        user_id=1_000_000,
        address=marked.word,
        targets=(Target(f"{marked.word}.example", 22),),
        reason=f"reason {marked.word}",
        state=TunnelState.CLOSED,
        created_ms=NOW,
        until_ms=NOW,
        idle_ms=1,
        ended_ms=NOW,
        end=TunnelEnd.BY_OPERATOR,
        end_detail=marked.word,
    )


def _keep_alert(transaction: Transaction, uid: str, word: str, owner: int) -> None:
    """One with a change and a copy of a record."""
    tenant_id = owner or None
    sample = RecordCopy(StreamName.METRICS_MASTER, NOW, {word: word})
    firing = Firing(owner, tenant_id, AlertSource.SYSTEM, word, f"rule {word}", 5, word, NOW, fields={word: word})
    alert = replace(fill(opened(firing, uid, NOW), firing, NOW).alert, assignee=word, muted_by=word, copies=1)
    [kept] = transaction.alerts.insert([alert])
    transaction.alerts.note([AlertChange(kept.id, owner, NOW, word, ChangeKind.OPENED, {"message": word})])
    transaction.alerts.attach([PlacedCopy(kept.id, owner, 0, 0, sample)])


def _window(word: str) -> WindowDraft:
    """One that is in the year 2027."""
    recurring = Recurring("0 2 * * *", 3_600_000, "UTC", NOW, NOW + 86_400_000)
    return WindowDraft(RULE_NAME, recurring, Scope(rules=frozenset({word})), f"text {word}")


def _keep_rule(transaction: Transaction, uid: str, word: str, owner: int, privacy: Privacy = OPEN) -> None:
    limits = {Level.MAJOR: Limit(">=", 1.0)}
    condition = Condition(f"metric.{word}", limits, (LabelCondition("k", (word,)),))
    actions = (Action(ActionKind.RAISE_ALERT, frozenset(limits)),)
    draft = RuleDraft(RULE_NAME, condition, actions, f"text {word}", (f"tag-{word}",), privacy=privacy)
    if privacy != OPEN:
        draft = replace(draft, name=f"{RULE_NAME} {word}")
    transaction.rules.insert(uid, draft, NOW, owner=owner)


def _keep_receiver(transaction: Transaction, uid: str, word: str, owner: int, privacy: Privacy = OPEN) -> int:
    """One that rests, so that nothing is sent."""
    settings = WebhookSettings(f"https://{word}.example/{word}", user=word)
    name = RULE_NAME if privacy == OPEN else f"{RULE_NAME} {word}"
    draft = ReceiverDraft(name, settings, f"text {word}", active=False, privacy=privacy)
    return transaction.receivers.insert(uid, draft, {}, NOW, owner=owner).id


def _delivery(uid: str, word: str, owner: int, receiver_id: int, tenant_id: int) -> NewDelivery:
    return NewDelivery(
        uid=uid,
        owner=owner,
        receiver_id=receiver_id,
        receiver_uid=f"receiver {word}",
        receiver_name=word,
        tenant_id=tenant_id,
        alert=f"alert {word}",
        rule=word,
        tenant_guid=f"guid {word}",
        tenant_name=word,
        instance_name=word,
        level="major",
        message=word,
        content="{}",
        created_ms=NOW,
    )


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

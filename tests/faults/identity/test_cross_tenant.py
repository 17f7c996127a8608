"""F37: every RPC x every role x an own, a foreign and a missing Tenant (and a rule of each), made from the descriptors.

Nobody is shown a word of a Tenant that they do not see, and a foreign Tenant or rule is answered exactly as one that does not exist.
"""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import psycopg
import pytest
import pytest_asyncio
from google.protobuf import field_mask_pb2
from google.protobuf.message import Message

from tenantry.master.domain.access import Role
from tenantry.master.domain.records import StreamName
from tenantry.protocol.failures import NotAllowed
from tenantry.v1 import (
    access_pb2,
    alert_service_pb2,
    receiver_service_pb2,
    role_service_pb2,
    rule_service_pb2,
    stream_service_pb2,
    tenant_pb2,
    tenant_service_pb2,
    tunnel_service_pb2,
)
from tests.faults.identity.canaries import (
    FOREIGN,
    MAIN_WORD,
    MISSING,
    OWN,
    PRIVATE_WORD,
    RULE_NAME,
    SHARED_WORD,
    Marked,
    lay_out,
)
from tests.servers.descriptors import Path, Rpc, api_rpcs, put, string_fields
from tests.servers.master import MasterProcess, initialise
from tests.servers.operating import call
from tests.servers.people import Person, call_as, make_person, make_token
from tests.servers.postgres import make_database, write_private
from tests.servers.refusals import refused

pytestmark = pytest.mark.slow

LONG = os.environ.get("TENANTRY_FAULTS") == "long"
AT_ONCE = 32
ENDING = {"MoveTenants", "ReadAuditChain", "Query", "TestRule"}
"""Streams that come to their end by themselves, however long that takes; their call has a deadline."""
SILENCE_S = 2.0
"""A stream that says nothing for so long has told what it has to tell."""
BYSTANDER = "bystander"
SAY_LITTLE_NEW = {Role.TIER_2_ANALYST, Role.MANAGE_SHARED_RESOURCES, Role.READ_SHARED_RESOURCES}
"""Roles that the short form leaves out on the second store: the same table in the same process decides for them."""
NAMES_A_TENANT = {"guid", "guids", "tenant", "tenant_guids", "owner", "owners"}
PROVES_THE_CALLER = {"password", "old_password", "code"}
"""What is in these changes the caller's own way in, or uses up attempts, so that the next call is answered otherwise."""
OPEN_SERVICES = {"SessionService", "OpenIdService"}
"""They serve strangers, count attempts, and know no Tenants."""
WORDS = {OWN.word, FOREIGN.word, MAIN_WORD, SHARED_WORD, PRIVATE_WORD}
STEADY = {"ReadRecords", "ListGaps", "MoveTenants"}
"""Whose answers about a Tenant do not change from call to call."""


@dataclass(frozen=True)
class Caller:
    """Somebody, and whose words they may be shown."""

    person: Person
    may_see: frozenset[str]


@dataclass(frozen=True)
class Outcome:
    """What a caller got: a status with its text and facts, and all messages as bytes."""

    code: grpc.StatusCode
    text: str
    facts: bytes
    payload: bytes

    def without(self, marked: Marked) -> "Outcome":
        """The same with the ids of this Tenant, its rule and its tunnel made unrecognisable."""
        text, facts, payload = self.text, self.facts, self.payload
        for guid in marked.ids:
            hidden, octets = "0" * len(guid), guid.encode()
            text, facts = text.replace(guid, hidden), facts.replace(octets, hidden.encode())
            payload = payload.replace(octets, hidden.encode())
        return Outcome(self.code, text, facts, payload)

    def shows(self, word: str) -> bool:
        """Whether the word is anywhere in it."""
        return word in self.text or word.encode() in self.facts + self.payload


Tried = list[tuple[str, Outcome]]
"""What was asked, and what came of it."""


@dataclass(frozen=True)
class Cast:
    """A Master with marked Tenants, and everybody who calls it, by a name for messages."""

    master: MasterProcess
    callers: dict[str, Caller]
    outcomes: dict[tuple[str, str], Tried] = field(default_factory=dict)

    async def ask(self, name: str, marked: Marked) -> Tried:
        """Everything that one caller can ask about one Tenant; asked once for all tests."""
        key = (name, marked.guid)
        if key not in self.outcomes:
            self.outcomes[key] = await ask_all(self.master, self.callers[name].person, marked)
        return self.outcomes[key]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def dsn(request: pytest.FixtureRequest) -> str | None:
    """Where the Master keeps its store: None for its data folder; on PostgreSQL behind a second wall."""
    if request.param == "sqlite":
        return None
    superuser_dsn = str(request.getfixturevalue("postgres_dsn"))
    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        return make_database(connection, superuser_dsn, "canaries")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cast(dsn: str | None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cast]:
    """The Master, and a caller for every role at the own Tenant, at the main and at the shared one, and with narrow tokens."""
    folder = tmp_path_factory.mktemp("canaries")
    data = folder / "master"
    arguments = () if dsn is None else ("--dsn-file", str(write_private(folder / "dsn", dsn)))
    master = MasterProcess(data, initialise(data, *arguments), ("compaction.interval=1d",))
    lay_out(master, dsn)
    master.start()
    try:
        # The short form asks everybody on one store; on the other it asks those whose answers differ most.
        everybody = [one async for one in _everybody(master, few=dsn is not None and not LONG)]
        yield Cast(master, dict(everybody))
    finally:
        master.kill()


async def _everybody(master: MasterProcess, *, few: bool) -> AsyncIterator[tuple[str, Caller]]:
    own, main, shared = frozenset({OWN.word}), frozenset({MAIN_WORD}), frozenset({SHARED_WORD})
    for role in Role:
        for owner, seen in ((OWN.guid, own), ("main", main), ("shared", shared)):
            if role is Role.GENERAL_ADMINISTRATOR:
                continue
            usual = Role.READ_SHARED_RESOURCES if owner == "shared" else Role.TENANT_ADMINISTRATOR
            if not LONG and owner != OWN.guid and role is not usual:
                continue
            if few and role in SAY_LITTLE_NEW:
                continue
            name = role.value.replace(" ", "-")
            person = await make_person(master, f"{name}-{owner[:6]}", (role.name, owner))
            yield f"{role.value} at {owner}", Caller(person, seen)
    yield "nobody", Caller(await make_person(master, "nobody"), frozenset())
    narrow = await make_token(master, "administrator", owners=[OWN.guid])
    # Whom privacy does not bind.
    yield "general administrator, token for one Tenant", Caller(narrow, own | {PRIVATE_WORD})
    await make_person(master, BYSTANDER)


def bases(rpc: Rpc, marked: Marked) -> Iterator[Message]:
    """Requests that get as far as they can, for the RPCs that need more than an id."""
    name, guid = rpc.method.name, marked.guid
    if name in ("ReadRecords", "TailRecords"):
        for stream, guids in itertools.product(StreamName if name == "ReadRecords" else FOLLOWED, ([], [guid])):
            wanted = stream_service_pb2.RecordFilter(stream=stream.value, tenant_guids=guids)
            if name == "ReadRecords":
                yield stream_service_pb2.ReadRecordsRequest(filter=wanted, page_size=1_000)
            else:
                yield stream_service_pb2.TailRecordsRequest(filter=wanted, backlog=100)
    elif name in ("Query", "FollowQuery"):
        yield from _bases_of_queries(name, guid)
    elif name == "MoveTenants":
        target = tenant_service_pb2.MoveTenantsRequest.Target(guid=guid)
        yield tenant_service_pb2.MoveTenantsRequest(tenants=[target], state=tenant_pb2.TENANT_STATE_ACTIVE)
    elif name == "UpdateTenant":
        request = tenant_service_pb2.UpdateTenantRequest(tenant=tenant_pb2.Tenant(guid=guid))
        request.update_mask.paths.append("recipients")
        yield request
    elif name in ("GrantRole", "RevokeRole"):
        kind = getattr(role_service_pb2, f"{name}Request")
        subject = role_service_pb2.Subject(user=BYSTANDER)
        yield kind(owner=guid, subject=subject, role=access_pb2.ROLE_JUNIOR_ANALYST)
    elif name == "CheckAccess":
        for permission in ("tenant.read", "tenant.move", "authority.write"):
            yield role_service_pb2.CheckAccessRequest(permission=permission, owner=guid)
    elif name.endswith("Rule"):
        yield _base_of_a_rule(name, marked)
    elif "Tunnel" in name:
        yield from _bases_of_tunnels(name, marked)
    else:
        of_alerts = rpc.service in ("AlertService", "WindowService")
        yield from (_bases_of_alerts if of_alerts else _bases_of_receivers)(rpc, marked)


FOLLOWED = [*StreamName] if LONG else [StreamName.ALERTS, StreamName.METRICS_MASTER, StreamName.AUDIT_MESSAGES]
QUERIED = [*StreamName] if LONG else [StreamName.METRICS_MASTER, StreamName.AUDIT_MESSAGES]
"""Each answer of a query is worked out by a process: these have columns and a right of their own."""


def _bases_of_queries(name: str, guid: str) -> Iterator[Message]:
    """All there is, what a condition asks for by name, and what gathers texts of many records into one."""
    gathered = f'src stream="alerts" | where tenantId = "{guid}" or tenantName isNotNull'
    if name == "FollowQuery":
        yield stream_service_pb2.FollowQueryRequest(query=gathered, backlog=100)
        return
    for stream in QUERIED:
        yield stream_service_pb2.QueryRequest(query=f'src stream="{stream.value}" | records')
    yield stream_service_pb2.QueryRequest(
        query=f"{gathered} | aggr names=join(tenantName), n=count(), ids=dc(tenantId)"
    )
    yield stream_service_pb2.QueryRequest(query=f'src stream="metricsMaster" | where tenantId = "{guid}"', explain=True)


def _base_of_a_rule(name: str, marked: Marked) -> Message:
    if name == "CreateRule":
        return rule_service_pb2.CreateRuleRequest(rule=_rule(owner=marked.guid))
    if name == "UpdateRule":
        return rule_service_pb2.UpdateRuleRequest(
            rule=_rule(uid=marked.rule), update_mask=field_mask_pb2.FieldMask(paths=["score"])
        )
    found: Message = getattr(rule_service_pb2, f"{name}Request")(id=marked.rule)
    return found


def _bases_of_receivers(rpc: Rpc, marked: Marked) -> Iterator[Message]:
    request: Any = rpc.request()
    match rpc.method.name:
        case "CreateReceiver":
            request.receiver.CopyFrom(_receiver(owner=marked.guid))
        case "UpdateReceiver":
            request.receiver.CopyFrom(_receiver(uid=marked.receiver))
            request.update_mask.paths.append("description")
        case "PreviewReceiver":
            request.receiver.CopyFrom(_receiver())
            request.delivery = marked.delivery
        case "GetDelivery" | "RetryDelivery":
            request.id = marked.delivery
        case "GetReceiver" | "DeleteReceiver" | "TestReceiver":
            request.id = marked.receiver
        case "ListReceivers" | "ListDeliveries":
            yield rpc.request()
            request.filter.owner = marked.guid
        case _:
            pass
    yield request


def _bases_of_alerts(rpc: Rpc, marked: Marked) -> Iterator[Message]:
    request: Any = rpc.request()
    match rpc.method.name:
        case "ListAlerts" | "WatchAlerts":
            yield rpc.request()
            request.filter.tenant_guids.append(marked.guid)
        case "ListWindows" | "ListOccurrences":
            yield rpc.request()
            request.filter.owner = marked.guid
        case "CreateWindow" | "UpdateWindow" as name:
            window = request.window
            window.name = RULE_NAME
            if name == "CreateWindow":
                window.owner = marked.guid
            else:
                window.id = marked.window
                request.update_mask.paths.append("description")
            window.recurrence.cron, window.recurrence.time_zone = "0 0 * * *", "UTC"
            window.recurrence.duration.seconds = 60
        case "GetWindow" | "DeleteWindow":
            request.id = marked.window
        case _:
            request.id = marked.alert
    yield request


def _receiver(*, owner: str = "", uid: str = "") -> receiver_service_pb2.Receiver:
    """One that could be kept where there is none of its name, and leads to where nothing is sent."""
    webhook = receiver_service_pb2.WebhookReceiver(url="http://127.0.0.1:1/")
    return receiver_service_pb2.Receiver(name=RULE_NAME, webhook=webhook, owner=owner, id=uid)


def _bases_of_tunnels(name: str, marked: Marked) -> Iterator[Message]:
    if name == "ListTunnels":
        for guid in ("", marked.guid):
            yield tunnel_service_pb2.ListTunnelsRequest(tenant=guid, show_closed=True)
    elif name == "OpenTunnel":
        yield tunnel_service_pb2.OpenTunnelRequest(tenant=marked.guid)
    else:
        yield getattr(tunnel_service_pb2, f"{name}Request")(id=marked.tunnel)


def _rule(*, owner: str = "", uid: str = "") -> rule_service_pb2.Rule:
    """One that could be kept where there is none of its name."""
    threshold = rule_service_pb2.RuleThreshold(operator=rule_service_pb2.RULE_OPERATOR_GREATER, value=1.0)
    action = rule_service_pb2.RuleAction(
        kind=rule_service_pb2.RULE_ACTION_KIND_RAISE_ALERT, levels=[rule_service_pb2.RULE_LEVEL_MAJOR]
    )
    thresholds = rule_service_pb2.RuleThresholds(major=threshold)
    return rule_service_pb2.Rule(
        name=RULE_NAME, metric="m", thresholds=thresholds, actions=[action], owner=owner, id=uid
    )


def requests(rpc: Rpc, marked: Marked) -> Iterator[Message]:
    """Every request that is tried: the bases, and each text field in turn with the id in it."""
    guid = marked.guid
    if rpc.method.name in ("DeleteTenant", "DeleteRule", "DeleteReceiver", "DeleteWindow") and marked is OWN:
        return  # the other tests need them
    found = list(bases(rpc, marked))
    yield from found
    for path in string_fields(rpc.method.input_type):
        name = path[-1].name
        if name in NAMES_A_TENANT or (LONG and name not in PROVES_THE_CALLER):
            request = rpc.request()
            request.CopyFrom(found[0])
            _overwrite(request, path, guid)
            yield request


def _overwrite(request: Message, path: Path, guid: str) -> None:
    part = request
    for one in path[:-1]:
        if one.is_repeated:
            break
        part = getattr(part, one.name)
    else:
        part.ClearField(path[-1].name)
    put(request, path, guid)


async def ask_all(master: MasterProcess, person: Person, marked: Marked) -> Tried:
    """Make every call about one Tenant."""
    turns = asyncio.Semaphore(AT_ONCE)
    async with master.api_channel() as channel:

        async def one(rpc: Rpc, number: int, request: Message) -> tuple[str, Outcome]:
            async with turns:
                octets = request.SerializeToString()
                named = " naming it" if any(one.encode() in octets for one in marked.ids) else ""
                return f"{rpc.path} #{number}{named}", await outcome_of(channel, rpc, request, person)

        asked = [one(rpc, *entry) for rpc in api_rpcs() for entry in enumerate(requests(rpc, marked))]
        return list(await asyncio.gather(*asked))


async def outcome_of(channel: grpc.aio.Channel, rpc: Rpc, request: Message, person: Person) -> Outcome:
    """Make one call; of a stream everything until it is silent."""
    unary = not rpc.method.server_streaming
    kind: Any = channel.unary_unary if unary else channel.unary_stream
    stub: Any = kind(
        rpc.path, request_serializer=lambda message: message.SerializeToString(), response_deserializer=bytes
    )
    payload = b""
    try:
        if unary:
            payload = await stub(request, metadata=person.metadata, timeout=30)
        else:
            payload = await _read_all(rpc, stub(request, metadata=person.metadata, timeout=30))
    except grpc.aio.AioRpcError as error:
        facts = b"".join(
            value if isinstance(value, bytes) else value.encode() for _, value in error.trailing_metadata() or ()
        )
        return Outcome(error.code(), error.details() or "", facts, payload)
    return Outcome(grpc.StatusCode.OK, "", b"", payload)


async def _read_all(rpc: Rpc, stream: Any) -> bytes:
    payload = b""
    while True:
        try:
            message = await asyncio.wait_for(stream.read(), None if rpc.method.name in ENDING else SILENCE_S)
        except TimeoutError:
            return payload
        if message is grpc.aio.EOF:
            return payload
        payload += bytes(message)
        # These say when they have told what there is; then they would wait for news.
        watched = rpc.method.name == "WatchTenants" and tenant_service_pb2.WatchTenantsResponse.FromString(message)
        alerted = rpc.method.name == "WatchAlerts" and alert_service_pb2.WatchAlertsResponse.FromString(message)
        followed = rpc.method.name == "FollowQuery" and stream_service_pb2.FollowQueryResponse.FromString(message)
        told = (
            (watched and watched.synchronised) or (followed and followed.cursor) or (alerted and alerted.synchronised)
        )
        if rpc.method.name == "TailRecords" or told:
            stream.cancel()
            return payload


@dataclass
class Crossings:
    """What everybody was shown: ``calls`` that were made, the words that ``crossed``, and by which RPCs one's own were ``seen``."""

    calls: int = 0
    crossed: list[tuple[str, str, str]] = field(default_factory=list)
    seen: set[tuple[str, str]] = field(default_factory=set)


async def crossings(cast: Cast) -> Crossings:
    """Ask everything of everybody, and look for words that they must not see."""
    found = Crossings()
    for name, caller in cast.callers.items():
        for marked in (OWN, FOREIGN, MISSING):
            for asked, outcome in await cast.ask(name, marked):
                found.calls += 1
                found.crossed += [(name, asked, word) for word in WORDS - caller.may_see if outcome.shows(word)]
                if any(outcome.shows(word) for word in caller.may_see):
                    found.seen.add((name, asked.split()[0].rpartition("/")[2]))
    return found


async def told_apart(cast: Cast) -> tuple[list[tuple[str, str, Outcome, Outcome]], int]:
    """What was answered otherwise about a foreign Tenant than about one that is missing; and how many refusals there were."""
    different, refusals = [], 0
    for name in cast.callers:
        foreign, missing = await cast.ask(name, FOREIGN), await cast.ask(name, MISSING)
        for (asked, one), (_, other) in zip(foreign, missing, strict=True):
            service, _, method = asked.split()[0].rpartition("/")
            if "naming it" not in asked or service.rpartition(".")[2] in OPEN_SERVICES:
                continue
            if one.code is grpc.StatusCode.OK is other.code and method not in STEADY:
                continue
            refusals += one.code is not grpc.StatusCode.OK
            if one.without(FOREIGN) != other.without(MISSING):
                different.append((name, asked, one, other))
    return different, refusals


@pytest.mark.asyncio(loop_scope="module")
async def test_f37_no_word_of_a_tenant_reaches_who_does_not_see_it(cast: Cast) -> None:
    """Whatever is asked, with whichever id: of another Tenant, and of the main one, not a word comes back."""
    found = await crossings(cast)
    assert found.calls > 1_000
    assert found.crossed == []
    # The words are there to be seen, or the test would prove nothing.
    reading = {
        "GetTenant",
        "ListTenants",
        "WatchTenants",
        "ReadRecords",
        "TailRecords",
        "ListGaps",
        "GetRule",
        "ListRules",
        "GetAlert",
        "ListAlerts",
        "WatchAlerts",
        "GetWindow",
        "ListWindows",
    }
    assert {verb for name, verb in found.seen if name == f"tier 1 analyst at {OWN.guid}"} >= {
        "GetTunnel",
        "ListTunnels",
    }
    assert {verb for name, verb in found.seen if name == f"junior analyst at {OWN.guid}"} >= reading


@pytest.mark.asyncio(loop_scope="module")
async def test_f37_a_foreign_tenant_is_answered_as_one_that_does_not_exist(cast: Cast) -> None:
    """Status, text, facts and answer are the same but for the id that was sent, in every RPC and for every role."""
    different, refusals = await told_apart(cast)
    assert different == []
    assert refusals > 100


@pytest.mark.asyncio(loop_scope="module")
async def test_f37_the_people_of_a_tenant_are_shown_to_no_other(cast: Cast) -> None:
    """Users, groups and their roles: known to those who may read them at the Tenant, and at the main one, which has all people."""
    shown, known = [], set()
    for name in cast.callers:
        if name.endswith(" at main"):
            continue
        for marked in (OWN, FOREIGN, MISSING):
            for asked, outcome in await cast.ask(name, marked):
                if outcome.shows(FOREIGN.people):
                    shown.append((name, asked))
                if outcome.shows(OWN.people):
                    known.add((name, asked.split()[0].rpartition("/")[2]))
    assert shown == []
    assert {verb for name, verb in known if name == f"tenant administrator at {OWN.guid}"} >= {"ListUsers", "ListRoles"}
    assert {name for name, _ in known} == {
        f"tenant administrator at {OWN.guid}",
        "general administrator, token for one Tenant",
    }


@pytest.mark.asyncio(loop_scope="module")
async def test_f37_counts_are_of_what_is_seen(cast: Cast) -> None:
    """Totals, counters and sizes of streams are computed for the viewer, not narrowed afterwards."""
    person = cast.callers[f"tenant administrator at {OWN.guid}"].person
    async with cast.master.api_channel() as channel:
        listing = tenant_service_pb2.ListTenantsRequest(page_size=1)
        tenants = await call_as(channel, person, "TenantService", "ListTenants", listing)
        assert (tenants.total_size, tenants.next_page_token) == (1, "")
        for text in (FOREIGN.word, FOREIGN.guid, "canary"):
            listing = tenant_service_pb2.ListTenantsRequest(filter=tenant_service_pb2.TenantFilter(text=text))
            found = await call_as(channel, person, "TenantService", "ListTenants", listing)
            assert [one.guid for one in found.tenants] == ([OWN.guid] if text == "canary" else [])
        for tag in (FOREIGN.word, PRIVATE_WORD, MAIN_WORD, SHARED_WORD, OWN.word):
            wanted = rule_service_pb2.RuleFilter(tags=[f"tag-{tag}"])
            rules = await call_as(
                channel, person, "RuleService", "ListRules", rule_service_pb2.ListRulesRequest(filter=wanted)
            )
            expected = [OWN.rule] if tag == OWN.word else []
            assert ([one.id for one in rules.rules], rules.total_size) == (expected, len(expected))
        streams = await call_as(
            channel, person, "StreamService", "ListStreams", stream_service_pb2.ListStreamsRequest()
        )
        sizes = {stream.name: stream.records for stream in streams.streams}
        assert {sizes[name.value] for name in (StreamName.ALERTS, StreamName.METRICS_MASTER, StreamName.NETFLOW)} == {1}
        everything = await call(cast.master, "StreamService", "ListStreams", stream_service_pb2.ListStreamsRequest())
        assert {stream.name: stream.records for stream in everything.streams}["metricsMaster"] == 2


@pytest.mark.asyncio(loop_scope="module")
async def test_f37_the_audit_needs_a_right_of_its_own(cast: Cast) -> None:
    """Who may read streams does not read the audit; who may read the audit of one Tenant reads that alone."""
    wanted = stream_service_pb2.ReadRecordsRequest(filter=stream_service_pb2.RecordFilter(stream="auditMessages"))
    async with cast.master.api_channel() as channel:
        junior = cast.callers[f"junior analyst at {OWN.guid}"].person
        with refused(NotAllowed, permission="audit.read"):
            await call_as(channel, junior, "StreamService", "ReadRecords", wanted)
        administrator = cast.callers[f"tenant administrator at {OWN.guid}"].person
        records = (await call_as(channel, administrator, "StreamService", "ReadRecords", wanted)).records
        assert records
        assert {record.tenant_guid for record in records} == {OWN.guid}


@pytest.mark.asyncio(loop_scope="module")
async def test_f37_a_token_is_narrower_than_its_user(cast: Cast) -> None:
    """An administrator's token for reading moves nothing; one for a Tenant sees no other."""
    reading = await make_token(cast.master, "administrator", permissions=["tenant.read"])
    narrow = cast.callers["general administrator, token for one Tenant"].person
    async with cast.master.api_channel() as channel:
        listing = tenant_service_pb2.ListTenantsRequest()
        assert (await call_as(channel, reading, "TenantService", "ListTenants", listing)).total_size == 2
        with refused(NotAllowed, permission="tenant.move"):
            request = tenant_service_pb2.ActivateTenantRequest(guid=OWN.guid)
            await call_as(channel, reading, "TenantService", "ActivateTenant", request)
        found = await call_as(channel, narrow, "TenantService", "ListTenants", listing)
        assert [one.guid for one in found.tenants] == [OWN.guid]

"""Whose rules they are: who sees, changes and copies them, and what privacy leaves of that."""

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc.aio
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask

from tenantry.protocol.failures import (
    FieldInvalid,
    NotAllowed,
    RuleInLibrary,
    RuleNameTaken,
    RuleNotFound,
    TenantNotFound,
)
from tenantry.v1 import access_pb2 as access
from tenantry.v1 import rule_service_pb2 as rules
from tests.master.rpc.test_rule_service import busy_rule
from tests.servers.master import MasterProcess
from tests.servers.operating import delete, read_records
from tests.servers.people import Metadata, Person, call_as, make_person, make_token
from tests.servers.refusals import refused
from tests.servers.wire_tenant import create_tenant

pb: Any = rules
JUNIOR = access.ROLE_JUNIOR_ANALYST
NOWHERE = "00000000-0000-4000-8000-00000000000e"


@dataclass(frozen=True)
class Administrator:
    """Who may do everything, as `call_as` takes people."""

    metadata: Metadata


@dataclass(frozen=True)
class Company:
    """Two Tenants, and people with roles at one of them, at the main or at the shared tenant."""

    master: MasterProcess
    channel: grpc.aio.Channel
    guid: str
    other: str
    mark: str

    @property
    def administrator(self) -> Any:
        """Who may do everything."""
        return Administrator(self.master.metadata)

    async def person(self, role: str, owner: str) -> Person:
        """Somebody new with this role there."""
        return await make_person(self.master, f"p{secrets.token_hex(5)}", (role, owner))

    async def ask(self, person: Any, method: str, **fields: Any) -> Any:
        """One call of the service in somebody's name."""
        return await call_as(self.channel, person, "RuleService", method, getattr(pb, f"{method}Request")(**fields))

    async def make(self, person: Any, owner: str, name: str = "busy", **fields: Any) -> rules.Rule:
        """A new rule whose name nobody else has."""
        wanted = busy_rule(name=f"{self.mark} {name}", owner=owner, **fields)
        made: rules.Rule = (await self.ask(person, "CreateRule", rule=wanted)).rule
        return made

    async def narrowed(self, person: Any, *permissions: str) -> Person:
        """A further token of somebody, for these rights alone."""
        return await make_token(self.master, person.name, permissions=permissions)

    async def listed(self, person: Any, **wanted: Any) -> list[str]:
        """The ids of this company's rules in somebody's list, whose count must be theirs."""
        found = await self.ask(person, "ListRules", filter=rules.RuleFilter(text=self.mark, **wanted))
        assert found.total_size == len(found.rules)
        return [rule.id for rule in found.rules]


@pytest_asyncio.fixture
async def company(master: MasterProcess) -> AsyncIterator[Company]:
    """Two new Tenants on the Master of all these tests."""
    mark = secrets.token_hex(6)
    made = [await create_tenant(master, f"{mark} {place}") for place in ("one", "other")]
    async with master.api_channel() as channel:
        yield Company(master, channel, made[0].tenant.guid, made[1].tenant.guid, mark)


async def test_a_rule_is_seen_and_changed_by_rights_at_its_owner(company: Company) -> None:
    """Who may write there writes, who may read there reads, and to everybody else it does not exist, in no list and no count."""
    writer, reader = (
        await company.person("TIER_2_ANALYST", company.guid),
        await company.person("JUNIOR_ANALYST", company.guid),
    )
    stranger = await company.person("TENANT_ADMINISTRATOR", company.other)
    of_main = await company.person("TENANT_ADMINISTRATOR", "main")
    own, everybodys = await company.make(writer, company.guid), await company.make(company.administrator, "main")
    assert (own.owner, own.tenant_name) == (company.guid, f"{company.mark} one")
    assert (everybodys.owner, everybodys.tenant_name) == ("main", "")
    for person, seen in ((writer, [own.id]), (reader, [own.id]), (stranger, []), (of_main, [everybodys.id])):
        assert await company.listed(person) == seen
        for rule in (own, everybodys):
            if rule.id in seen:
                assert (await company.ask(person, "GetRule", id=rule.id)).rule.owner == rule.owner
                continue
            for method in ("GetRule", "DeleteRule", "EnableRule", "DisableRule"):
                for uid in (rule.id, NOWHERE):  # one answer to both
                    with refused(RuleNotFound if person is not reader or method == "GetRule" else NotAllowed):
                        await company.ask(person, method, id=uid)
    assert len(await company.listed(company.administrator)) == 2
    assert await company.listed(company.administrator, owner=company.guid) == [own.id]
    for method in ("DeleteRule", "EnableRule", "DisableRule"):
        with refused(NotAllowed, permission="rule.write"):
            await company.ask(reader, method, id=own.id)
    await company.ask(await company.narrowed(writer, "rule.read", "rule.write"), "DeleteRule", id=own.id)


async def test_a_rule_does_nothing_that_its_writer_may_not(company: Company) -> None:
    """A token that is narrowed to rules reads nothing of what Tenants send and moves none, by new rules or present ones."""
    writer = await company.person("TIER_2_ANALYST", company.guid)
    moving = await company.make(writer, company.guid, name="moving", active=False)
    assert any(one.kind == rules.RULE_ACTION_KIND_TO_ALERT for one in moving.actions)
    telling = [rules.RuleAction(kind=rules.RULE_ACTION_KIND_RAISE_ALERT, levels=[rules.RULE_LEVEL_CRITICAL])]
    scope = ("tenant.read", "rule.read", "rule.write")
    blind, reading = await company.narrowed(writer, *scope), await company.narrowed(writer, *scope, "stream.read")
    named = rules.Rule(id=moving.id, description="another one")
    for person, missing in ((blind, "stream.read"), (reading, "tenant.move")):
        with refused(NotAllowed, permission=missing):
            await company.make(person, company.guid, name="more")
        with refused(NotAllowed, permission=missing):
            await company.ask(person, "EnableRule", id=moving.id)
        with refused(NotAllowed, permission=missing):
            await company.ask(person, "UpdateRule", rule=named, update_mask={"paths": ["description"]})
    with refused(NotAllowed, permission="stream.read"):
        await company.make(blind, company.guid, name="telling", actions=telling)
    told = await company.make(reading, company.guid, name="telling", actions=telling, active=False)
    assert (await company.ask(reading, "EnableRule", id=told.id)).rule.active
    found = (await company.ask(writer, "GetRule", id=moving.id)).rule
    assert (found.active, found.etag) == (False, moving.etag)


async def test_a_rule_is_created_where_the_caller_may(company: Company) -> None:
    """A foreign owner is one that does not exist; one that is not named is refused; names are an owner's own."""
    writer = await company.person("TIER_2_ANALYST", company.guid)
    for owner in (company.other, NOWHERE):
        with refused(TenantNotFound):
            await company.make(writer, owner)
        with refused(TenantNotFound):
            await company.listed(writer, owner=owner)
    for owner in ("main", "shared"):
        with refused(NotAllowed):
            await company.make(writer, owner)
        with refused(NotAllowed):
            await company.listed(writer, owner=owner)
    for owner in ("", "nobody"):
        for person in (writer, company.administrator):
            with refused(FieldInvalid):
                await company.make(person, owner)
    with refused(TenantNotFound):
        await company.make(company.administrator, NOWHERE)
    made = [await company.make(company.administrator, owner) for owner in (company.other, "main", "shared")]
    made.append(await company.make(writer, company.guid))
    assert len({rule.name for rule in made}) == 1
    with refused(RuleNameTaken):
        await company.make(writer, company.guid)


async def test_a_rule_stays_with_its_owner(company: Company) -> None:
    """No update moves it; a copy at another owner is another rule, and what was done is in the owner's audit."""
    administrator = await company.person("TENANT_ADMINISTRATOR", company.guid)
    own = await company.make(administrator, company.guid)
    wanted = rules.Rule(id=own.id, owner=company.other, description="new")
    with refused(FieldInvalid):
        await company.ask(administrator, "UpdateRule", rule=wanted, update_mask=FieldMask(paths=["owner"]))
    mask = FieldMask(paths=["description"])
    changed = (await company.ask(administrator, "UpdateRule", rule=wanted, update_mask=mask)).rule
    assert (changed.owner, changed.description) == (company.guid, "new")
    audited = [one.fields for one in await read_records(company.master, "auditMessages", company.guid)]
    own_deeds = [(one["action"], one["owner"]) for one in audited if "rule_id" in one and one["rule_id"] == own.id]
    assert own_deeds == [("rule.create", company.guid), ("rule.update", company.guid)]


async def test_the_shared_tenants_rules_are_a_library(company: Company) -> None:
    """Who may read shared resources reads them, who may manage them changes them, and nobody lets one judge."""
    reader = await company.person("READ_SHARED_RESOURCES", "shared")
    manager = await company.person("MANAGE_SHARED_RESOURCES", "shared")
    elsewhere = await company.person("MANAGE_SHARED_RESOURCES", company.guid)
    made = await company.make(manager, "shared")
    assert await company.listed(reader) == await company.listed(manager) == [made.id]
    assert await company.listed(reader, owner="shared") == [made.id]
    with refused(NotAllowed):
        await company.ask(reader, "DeleteRule", id=made.id)
    with refused(NotAllowed):
        await company.listed(elsewhere)
    narrow = await make_token(company.master, manager.name, permissions=["shared.read"])
    assert await company.listed(narrow) == [made.id]
    for person in (manager, company.administrator):
        with refused(RuleInLibrary):
            await company.ask(person, "EnableRule", id=made.id)
        with refused(RuleInLibrary):
            active = rules.Rule(id=made.id, active=True)
            await company.ask(person, "UpdateRule", rule=active, update_mask=FieldMask(paths=["active"]))
        with refused(RuleInLibrary):
            await company.make(person, "shared", "at once", active=True)
    await company.ask(manager, "DisableRule", id=made.id)
    await company.ask(manager, "DeleteRule", id=made.id)


async def test_privacy_narrows_what_rights_allow(company: Company) -> None:
    """A private rule is its maker's and the general administrators'; a public one says what others may; a shared one, which roles."""
    maker, colleague = [await company.person("TIER_2_ANALYST", company.guid) for _ in range(2)]
    junior = await company.person("JUNIOR_ANALYST", company.guid)
    kinds, narrowed = access.Privacy, FieldMask(paths=["privacy"])
    private = await company.make(maker, company.guid, "a", privacy=kinds(kind=kinds.KIND_PRIVATE))
    assert private.privacy.kind == kinds.KIND_PRIVATE
    public = await company.make(maker, company.guid, "b", privacy=kinds(kind=kinds.KIND_PUBLIC, may_edit=True))
    share = kinds.Share(role=JUNIOR)
    shared = await company.make(maker, company.guid, "c", privacy=kinds(kind=kinds.KIND_SHARED, shares=[share]))
    every = [private.id, public.id, shared.id]
    assert await company.listed(maker) == await company.listed(company.administrator) == every
    assert await company.listed(colleague) == [public.id]
    assert await company.listed(junior) == [public.id, shared.id]
    for method in ("GetRule", "EnableRule", "DeleteRule"):
        with refused(RuleNotFound):
            await company.ask(colleague, method, id=private.id)
    assert (await company.ask(colleague, "EnableRule", id=public.id)).rule.active
    with refused(NotAllowed):
        await company.ask(colleague, "DeleteRule", id=public.id)
    with refused(NotAllowed):
        await company.ask(junior, "EnableRule", id=shared.id)
    wanted = rules.Rule(id=public.id, privacy=kinds(kind=kinds.KIND_PRIVATE))
    await company.ask(colleague, "UpdateRule", rule=wanted, update_mask=narrowed)
    assert await company.listed(colleague) == [], "whoever made it private first keeps it"
    assert await company.listed(maker) == every
    opened = (await company.ask(maker, "UpdateRule", rule=rules.Rule(id=private.id), update_mask=narrowed)).rule
    assert opened.privacy.kind == kinds.KIND_UNSPECIFIED
    assert await company.listed(colleague) == [private.id]


async def test_a_deleted_tenants_rules_are_gone(company: Company) -> None:
    """With the Tenant, for everybody; rules of others stay."""
    own, other = (
        await company.make(company.administrator, company.guid),
        await company.make(company.administrator, company.other),
    )
    await delete(company.master, company.guid)
    assert await company.listed(company.administrator) == [other.id]
    with refused(RuleNotFound):
        await company.ask(company.administrator, "GetRule", id=own.id)
    with refused(TenantNotFound):
        await company.make(company.administrator, company.guid, "again")

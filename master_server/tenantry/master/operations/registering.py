"""The register of Tenants: create, edit, move, re-key, decide a quarantine, delete. Work for the committer.

Each function runs in a transaction, writes its history and its audit record in the same one, and returns what was stored.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tenantry.master.domain.keys import EnrolmentKey, check_key_lifetime
from tenantry.master.domain.lifecycle import LifecycleEvent, move
from tenantry.master.domain.privacy import OPEN, Privacy, kept
from tenantry.master.domain.tenants import Tenant, check_configuration, check_etag
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.alert_work import resolve_of_deleted
from tenantry.master.operations.findings import follow_moves
from tenantry.master.operations.receiving import delete_receivers_of
from tenantry.master.operations.ruling import delete_rules_of
from tenantry.master.operations.windowing import delete_windows_of
from tenantry.master.sql.tenants import NewTenant
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import FieldInvalid, TenantInWrongState, TenantNotQuarantined
from tenantry.protocol.joining import Secret
from tenantry.protocol.messages import Configuration, TenantState
from tenantry.protocol.names import (
    MAX_DESCRIPTION,
    MAX_REASON,
    check_guid,
    check_name,
    check_recipients,
    check_tags,
    check_text,
    tidy_text,
)

LicenceCheck = Callable[[Transaction, int], object]
"""Raises when the licences in force do not allow what is new; takes the time (Unix ms)."""
REQUEST_MEMORY_MS = 24 * 3_600_000

EDITABLE = (
    "tenant_name",
    "instance_name",
    "description",
    "tags",
    "recipients",
    "configuration",
    "configuration.heartbeat_interval",
    "configuration.probe_intervals",
    "configuration.disabled_probes",
    "privacy",
)


@dataclass(frozen=True, slots=True)
class TenantDraft:
    """What an operator may say about a Tenant; not checked yet."""

    tenant_name: str
    instance_name: str
    description: str = ""
    tags: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    configuration: Configuration = field(default_factory=Configuration)
    privacy: Privacy = OPEN


@dataclass(frozen=True, slots=True)
class Keyed:
    """A Tenant with the enrolment key that was made for it: the only place where the secret is."""

    tenant: Tenant
    secret: Secret
    expires_ms: int


def create_tenant(
    transaction: Transaction,
    actor: Actor,
    draft: TenantDraft,
    *,
    guid: str,
    secret: Secret,
    key_lifetime_ms: int,
    request_id: str,
    licences: LicenceCheck,
    now_ms: int,
) -> Keyed:
    """Register a Tenant with a new key, or answer a repeated request with a fresh key in place of the unused one.

    ``licences`` says whether there is a place for one more. Raises FieldInvalid, TenantNameTaken, TenantInWrongState (a repeated
    request whose Tenant has been enrolled since), and what ``licences`` raises.
    """
    lifetime_ms = check_key_lifetime(key_lifetime_ms)
    checked = check_draft(draft)
    if request_id:
        repeated = transaction.tenants.by_request(check_guid(request_id, "request_id"), now_ms - REQUEST_MEMORY_MS)
        if repeated is not None:
            if repeated.state is not TenantState.UNREGISTERED or repeated.key_expires_ms is None:
                raise TenantInWrongState(
                    tenant=repeated.guid, state=repeated.state.value, wanted="registered again", allowed="re-keying"
                )
            record = journal.audit(actor, "tenant.create", now_ms, repeated.id, guid=repeated.guid, repeated=True)
            transaction.records.append([record])
            return _give_key(transaction, actor, repeated, secret, lifetime_ms, now_ms)
    licences(transaction, now_ms)
    tenant = transaction.tenants.insert(
        NewTenant(
            guid=guid,
            tenant_name=checked.tenant_name,
            instance_name=checked.instance_name,
            description=checked.description,
            tags=checked.tags,
            recipients=checked.recipients,
            configuration=replace(checked.configuration, version=1),
            created_ms=now_ms,
            request_id=request_id,
            privacy=checked.privacy,
        )
    )
    transaction.records.append(
        [
            journal.registration(tenant, "registered", actor, "", now_ms),
            journal.audit(actor, "tenant.create", now_ms, tenant.id, guid=guid),
        ]
    )
    return _give_key(transaction, actor, tenant, secret, lifetime_ms, now_ms)


def check_draft(draft: TenantDraft) -> TenantDraft:
    """The draft in its stored form. Raises FieldInvalid."""
    check_configuration(draft.configuration)
    return TenantDraft(
        tenant_name=check_name(draft.tenant_name, "tenant_name"),
        instance_name=check_name(draft.instance_name, "instance_name"),
        description=check_text(draft.description, "description", MAX_DESCRIPTION, lines=True),
        tags=check_tags(draft.tags),
        recipients=check_recipients(draft.recipients),
        configuration=draft.configuration,
        privacy=draft.privacy,
    )


def update_tenant(
    transaction: Transaction,
    actor: Actor,
    guid: str,
    etag: str,
    draft: TenantDraft,
    paths: tuple[str, ...],
    now_ms: int,
) -> Tenant:
    """Change the fields in ``paths`` to those of ``draft``. Raises FieldInvalid, TenantNotFound, TenantChanged, TenantNameTaken."""
    if not paths:
        raise FieldInvalid(field="update_mask", problem="is empty", expected=f"paths among {', '.join(EDITABLE)}")
    for path in paths:
        if path not in EDITABLE:
            raise FieldInvalid(
                field="update_mask",
                problem="names a field that cannot be edited",
                expected=f"among {', '.join(EDITABLE)}",
            )
    tenant = _alive(transaction, guid)
    check_etag(tenant, etag)
    wanted = check_draft(_merge(tenant, draft, paths))
    configuration = wanted.configuration
    if any(path.startswith("configuration") for path in paths):
        configuration = replace(configuration, version=tenant.configuration.version + 1)
    updated = replace(
        tenant,
        tenant_name=wanted.tenant_name,
        instance_name=wanted.instance_name,
        description=wanted.description,
        tags=wanted.tags,
        recipients=wanted.recipients,
        configuration=configuration,
        privacy=wanted.privacy,
        version=tenant.version + 1,
        updated_ms=now_ms,
    )
    transaction.tenants.save(updated, privacy=updated.privacy != tenant.privacy)
    transaction.records.append(
        [journal.audit(actor, "tenant.update", now_ms, tenant.id, guid=guid, fields=list(paths))]
    )
    return updated


def _merge(tenant: Tenant, draft: TenantDraft, paths: tuple[str, ...]) -> TenantDraft:
    configuration, wanted = tenant.configuration, draft.configuration
    if "configuration" in paths:
        configuration = replace(wanted, version=configuration.version)
    if "configuration.heartbeat_interval" in paths:
        configuration = replace(configuration, heartbeat_interval_ms=wanted.heartbeat_interval_ms)
    if "configuration.probe_intervals" in paths:
        configuration = replace(configuration, probe_intervals_ms=wanted.probe_intervals_ms)
    if "configuration.disabled_probes" in paths:
        configuration = replace(configuration, disabled_probes=wanted.disabled_probes)
    return TenantDraft(
        tenant_name=draft.tenant_name if "tenant_name" in paths else tenant.tenant_name,
        instance_name=draft.instance_name if "instance_name" in paths else tenant.instance_name,
        description=draft.description if "description" in paths else tenant.description,
        tags=draft.tags if "tags" in paths else tenant.tags,
        recipients=draft.recipients if "recipients" in paths else tenant.recipients,
        configuration=configuration,
        privacy=kept(tenant.privacy, draft.privacy) if "privacy" in paths else tenant.privacy,
    )


def move_tenant(
    transaction: Transaction, actor: Actor, guid: str, event: LifecycleEvent, reason: str, etag: str, now_ms: int
) -> Tenant:
    """Move a Tenant through its life cycle. Raises TenantNotFound, TenantChanged, TenantInWrongState, FieldInvalid."""
    reason = check_text(reason, "reason", MAX_REASON)
    tenant = _alive(transaction, guid)
    check_etag(tenant, etag)
    after = move(guid, tenant.state, event)
    follow_moves(transaction, [(tenant.id, tenant.state)], after, now_ms)
    moved = replace(
        tenant,
        state=after,
        state_since_ms=now_ms,
        state_reason=reason,
        version=tenant.version + 1,
        updated_ms=now_ms,
    )
    transaction.tenants.save(moved)
    transaction.records.append(
        [
            journal.state_changed(tenant, tenant.state, after, actor, reason, now_ms),
            journal.audit(actor, "tenant.move", now_ms, tenant.id, guid=guid, to=after.value, reason=reason),
        ]
    )
    return moved


def rekey_tenant(
    transaction: Transaction,
    actor: Actor,
    guid: str,
    *,
    etag: str,
    reason: str,
    secret: Secret,
    key_lifetime_ms: int,
    revoke: bool,
    licences: LicenceCheck,
    now_ms: int,
) -> Keyed:
    """A new enrolment key for the same GUID; ends a quarantine. With ``revoke`` every certificate stops working now.

    Raises TenantNotFound, TenantChanged, FieldInvalid, and what ``licences`` raises when nothing may be let in.
    """
    lifetime_ms = check_key_lifetime(key_lifetime_ms)
    reason = check_text(reason, "reason", MAX_REASON)
    tenant = _alive(transaction, guid)
    check_etag(tenant, etag)
    licences(transaction, now_ms)
    revoked = transaction.certificates.revoke_all(tenant.id) if revoke else []
    tenant = replace(tenant, quarantine=None, version=tenant.version + 1, updated_ms=now_ms)
    transaction.records.append(
        [
            journal.registration(tenant, "re-keyed", actor, reason, now_ms, revoked=len(revoked)),
            journal.audit(actor, "tenant.rekey", now_ms, tenant.id, guid=guid, reason=reason, revoked=list(revoked)),
        ]
    )
    return _give_key(transaction, actor, tenant, secret, lifetime_ms, now_ms)


def resolve_quarantine(
    transaction: Transaction, actor: Actor, guid: str, *, keep_newcomer: bool, reason: str, now_ms: int
) -> Tenant:
    """Decide which of two machines goes on. Raises TenantNotFound, TenantNotQuarantined, FieldInvalid."""
    reason = check_text(reason, "reason", MAX_REASON)
    tenant = _alive(transaction, guid)
    if tenant.quarantine is None:
        raise TenantNotQuarantined(tenant=guid)
    quarantine = replace(tenant.quarantine, keep_newcomer=True) if keep_newcomer else None
    decided = replace(tenant, quarantine=quarantine, version=tenant.version + 1, updated_ms=now_ms)
    transaction.tenants.save(decided)
    kept = "newcomer" if keep_newcomer else "current"
    transaction.records.append(
        [journal.audit(actor, "tenant.resolve_quarantine", now_ms, tenant.id, guid=guid, kept=kept, reason=reason)]
    )
    return decided


def delete_tenant(transaction: Transaction, actor: Actor, guid: str, *, etag: str, reason: str, now_ms: int) -> Tenant:
    """Delete a Tenant with its rules; its history stays. Raises TenantNotFound, TenantChanged, FieldInvalid."""
    reason = check_text(reason, "reason", MAX_REASON)
    tenant = _alive(transaction, guid)
    check_etag(tenant, etag)
    after = move(guid, tenant.state, LifecycleEvent.DELETED)
    follow_moves(transaction, [(tenant.id, tenant.state)], after, now_ms)
    transaction.certificates.revoke_all(tenant.id)
    transaction.keys.cancel_unused(tenant.id, now_ms)
    transaction.role_bindings.delete_at(tenant.id)
    delete_rules_of(transaction, actor, tenant.id, now_ms)
    delete_windows_of(transaction, actor, tenant.id, now_ms)
    resolve_of_deleted(transaction, actor, tenant.id, now_ms)
    delete_receivers_of(transaction, actor, tenant.id, now_ms)
    deleted = replace(
        tenant,
        state=after,
        deleted_ms=now_ms,
        quarantine=None,
        key_expires_ms=None,
        version=tenant.version + 1,
        updated_ms=now_ms,
    )
    transaction.tenants.save(deleted)
    transaction.records.append(
        [
            journal.state_changed(tenant, tenant.state, after, actor, reason, now_ms),
            journal.registration(tenant, "deleted", actor, reason, now_ms),
            journal.audit(actor, "tenant.delete", now_ms, tenant.id, guid=guid, reason=reason),
        ]
    )
    return deleted


def report_configuration(transaction: Transaction, tenant_id: int, version: int, failure: str) -> None:
    """What a daemon made of a pushed configuration."""
    tenant = transaction.tenants.by_id(tenant_id)
    if failure:
        text = tidy_text(failure, MAX_REASON)
        changed = replace(tenant, failed_configuration=version, configuration_failure=text)
    else:
        changed = replace(tenant, running_configuration=version, failed_configuration=0, configuration_failure="")
    transaction.tenants.save(changed)


def report_trust(transaction: Transaction, tenant_id: int, bundle_hash: bytes) -> None:
    """A daemon has a pushed trust bundle on its disk."""
    transaction.tenants.save(replace(transaction.tenants.by_id(tenant_id), trust_bundle_hash=bundle_hash))


def _alive(transaction: Transaction, guid: str) -> Tenant:
    """The Tenant, unless it is deleted: then an operator's change is an illegal move. Raises TenantNotFound."""
    tenant = transaction.tenants.get(check_guid(guid))
    if tenant.state is TenantState.DELETED:
        raise TenantInWrongState(
            tenant=guid, state=tenant.state.value, wanted="any other", allowed="nothing; its GUID is never used again"
        )
    return tenant


def _give_key(
    transaction: Transaction, actor: Actor, tenant: Tenant, secret: Secret, lifetime_ms: int, now_ms: int
) -> Keyed:
    transaction.keys.cancel_unused(tenant.id, now_ms)
    expires_ms = now_ms + lifetime_ms
    transaction.keys.insert(EnrolmentKey(secret.id, secret.hash, tenant.id, now_ms, expires_ms, actor.name))
    keyed = replace(tenant, key_hash=secret.hash, key_expires_ms=expires_ms)
    transaction.tenants.save(keyed)
    return Keyed(keyed, secret, expires_ms)

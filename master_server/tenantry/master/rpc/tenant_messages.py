"""Tenants on the wire: domain -> tenant.proto, and the filters and drafts of requests back."""

from dataclasses import replace

from tenantry.master.domain.certificates import Certificate
from tenantry.master.domain.connectivity import Connectivity
from tenantry.master.domain.privacy import OPEN
from tenantry.master.domain.tenants import Tenant, TenantFilter, TenantOrder
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.links import LinkDirectory
from tenantry.master.operations.registering import TenantDraft
from tenantry.master.operations.usage import UsageReader
from tenantry.master.rpc.access_messages import decode_privacy, encode_privacy
from tenantry.protocol.failures import FieldInvalid, FilterInvalid
from tenantry.protocol.messages import TenantState
from tenantry.transport.wire_values import (
    GOODBYES,
    STATES,
    WireEnum,
    decode_configuration,
    encode_configuration,
    encode_spool,
    from_duration,
    to_duration,
    to_timestamp,
)
from tenantry.v1 import tenant_pb2, tenant_service_pb2

CONNECTIVITIES = WireEnum(Connectivity, tenant_pb2.Connectivity.Value, "CONNECTIVITY")

MAX_FILTER_GUIDS = 1_000
MAX_FILTER_TEXT = 200

_ORDERS = {
    tenant_service_pb2.TENANT_ORDER_UNSPECIFIED: TenantOrder.NAME,
    tenant_service_pb2.TENANT_ORDER_NAME: TenantOrder.NAME,
    tenant_service_pb2.TENANT_ORDER_CREATE_TIME_DESCENDING: TenantOrder.CREATED_DESCENDING,
    tenant_service_pb2.TENANT_ORDER_STATE: TenantOrder.STATE,
    tenant_service_pb2.TENANT_ORDER_LAST_HEARTBEAT: TenantOrder.LAST_HEARD,
}


class TenantEncoder:
    """Writes Tenants with what the open links know of them."""

    def __init__(self, links: LinkDirectory, usage: UsageReader, clocks: Clocks) -> None:
        self._links = links
        self._usage = usage
        self._clocks = clocks

    def encode(self, tenant: Tenant, certificate: Certificate | None) -> tenant_pb2.Tenant:
        """The Tenant as it is now."""
        message = tenant_pb2.Tenant(
            guid=tenant.guid,
            tenant_name=tenant.tenant_name,
            instance_name=tenant.instance_name,
            description=tenant.description,
            tags=tenant.tags,
            recipients=tenant.recipients,
            state=STATES.number(tenant.state),
            connectivity=CONNECTIVITIES.number(tenant.connectivity),
            create_time=to_timestamp(tenant.created_ms),
            update_time=to_timestamp(tenant.updated_ms),
            etag=tenant.etag,
            key_hash=tenant.key_hash,
            host_name=tenant.host_name,
            daemon_version=tenant.daemon_version,
            peer_address=tenant.peer_address,
            state_reason=tenant.state_reason,
            configuration=encode_configuration(tenant.configuration),
            configuration_status=tenant_pb2.ConfigurationStatus(
                wanted_version=tenant.configuration.version,
                running_version=tenant.running_configuration,
                failed_version=tenant.failed_configuration,
                failure=tenant.configuration_failure,
            ),
        )
        if tenant.privacy != OPEN:
            message.privacy.CopyFrom(encode_privacy(tenant.privacy))
        _set_time(message, "connectivity_since", tenant.connectivity_since_ms)
        _set_time(message, "delete_time", tenant.deleted_ms)
        _set_time(message, "state_since", tenant.state_since_ms)
        _set_time(message, "key_expire_time", tenant.key_expires_ms)
        if tenant.leave is not None:
            leave = tenant.leave
            message.leave.reason = GOODBYES.number(leave.reason)
            message.leave.note = leave.note
            _set_time(message.leave, "at", leave.at_ms)
            _set_time(message.leave, "until", leave.until_ms)
        if tenant.clock_offset_ms is not None:
            message.clock_offset.CopyFrom(to_duration(tenant.clock_offset_ms))
        if tenant.quarantine is not None:
            quarantine = tenant.quarantine
            message.quarantine.since.CopyFrom(to_timestamp(quarantine.since_ms))
            message.quarantine.cause = quarantine.cause
            message.quarantine.kept_peer = quarantine.kept_peer
            message.quarantine.refused_peer = quarantine.refused_peer
            message.quarantine.refusals = quarantine.refusals
        if certificate is not None:
            message.certificate.serial = certificate.serial
            message.certificate.not_after.CopyFrom(to_timestamp(certificate.not_after_ms))
        self._add_link(message, tenant)
        return message

    def _add_link(self, message: tenant_pb2.Tenant, tenant: Tenant) -> None:
        link = self._links.last(tenant.id)
        if link is None:
            _set_time(message, "last_heartbeat", tenant.last_heard_ms)
            return
        if self._links.get(tenant.id) is link:
            message.certificate.serial = link.serial
            message.certificate.not_after.CopyFrom(to_timestamp(link.not_after_ms))
        silent_ms = self._clocks.steady_ms() - link.heard_ms
        _set_time(message, "last_heartbeat", self._clocks.wall_ms() - silent_ms)
        if link.spool is not None:
            message.spool.CopyFrom(encode_spool(link.spool))
        usage = self._usage.read(link.latest.values())
        if usage is not None:
            for name, value in (("cpu", usage.cpu), ("memory", usage.memory), ("disk", usage.disk)):
                if value is not None:
                    setattr(message.usage, name, value)
            message.usage.time.CopyFrom(to_timestamp(usage.timestamp_ms))


def _set_time(message: tenant_pb2.Tenant | tenant_pb2.Leave, field: str, milliseconds: int | None) -> None:
    if milliseconds is not None:
        getattr(message, field).CopyFrom(to_timestamp(milliseconds))


def decode_draft(tenant: tenant_pb2.Tenant, heartbeat_interval_ms: int, user_id: int) -> TenantDraft:
    """What a request of this user says of a Tenant, unchecked; ``heartbeat_interval_ms`` is meant where it names none."""
    configuration = decode_configuration(tenant.configuration)
    if not tenant.configuration.HasField("heartbeat_interval"):
        configuration = replace(configuration, heartbeat_interval_ms=heartbeat_interval_ms)
    return TenantDraft(
        tenant.tenant_name,
        tenant.instance_name,
        tenant.description,
        tuple(tenant.tags),
        tuple(tenant.recipients),
        configuration,
        decode_privacy(tenant.privacy, user_id),
    )


def decode_filter(wanted: tenant_service_pb2.TenantFilter) -> TenantFilter:
    """A filter of a request. Raises FilterInvalid."""
    if len(wanted.text) > MAX_FILTER_TEXT or len(wanted.guids) > MAX_FILTER_GUIDS:
        raise FilterInvalid(problem=f"is longer than {MAX_FILTER_TEXT} characters or {MAX_FILTER_GUIDS} GUIDs")
    try:
        return TenantFilter(
            states=frozenset(STATES.member(number, TenantState) for number in wanted.states if number),
            connectivities=frozenset(
                CONNECTIVITIES.member(number, Connectivity) for number in wanted.connectivities if number
            ),
            tags=tuple(wanted.tags),
            text=wanted.text,
            tenant_name=wanted.tenant_name,
            instance_name=wanted.instance_name,
            quarantined=wanted.quarantined,
            guids=frozenset(wanted.guids),
        )
    except FieldInvalid as failure:
        raise FilterInvalid(problem=failure.describe()) from None


def decode_order(order: int) -> TenantOrder:
    """The order of a listing. Raises FieldInvalid."""
    found = _ORDERS.get(order)  # type: ignore[call-overload]  # the keys are the protobuf enum's NewType of int
    if found is None:
        raise FieldInvalid(field="order", problem=f"has the value {order}", expected="one of the named values")
    return TenantOrder(found)


def lifetime_of(
    request: tenant_service_pb2.CreateTenantRequest | tenant_service_pb2.RekeyTenantRequest, default_ms: int
) -> int:
    """The wanted lifetime of a key in milliseconds."""
    return from_duration(request.key_lifetime) if request.HasField("key_lifetime") else default_ms

"""Who may call what: one table, deny by default. A test walks the descriptors and finds every RPC here."""

from enum import StrEnum
from typing import Final


class Permission(StrEnum):
    """What a call needs."""

    ANYBODY = "anybody"
    """No identity: enrolment, where the key in the request decides, the clock, health."""
    TENANT = "tenant"
    """A Tenant's certificate on the `link` listener."""
    TENANT_READ = "tenant.read"
    TENANT_WRITE = "tenant.write"
    STREAM_READ = "stream.read"
    AUTHORITY_READ = "authority.read"
    AUTHORITY_WRITE = "authority.write"
    MASTER_READ = "master.read"
    DESCRIBE = "describe"
    """Reflection and channelz."""


_P = Permission

POLICY: Final[dict[str, Permission]] = {
    "/tenantry.v1.EnrolmentService/Enrol": _P.ANYBODY,
    "/tenantry.v1.EnrolmentService/GetServerTime": _P.ANYBODY,
    "/tenantry.v1.LinkService/Connect": _P.TENANT,
    "/tenantry.v1.LinkService/RenewCertificate": _P.TENANT,
    "/tenantry.v1.TenantService/CreateTenant": _P.TENANT_WRITE,
    "/tenantry.v1.TenantService/GetTenant": _P.TENANT_READ,
    "/tenantry.v1.TenantService/ListTenants": _P.TENANT_READ,
    "/tenantry.v1.TenantService/UpdateTenant": _P.TENANT_WRITE,
    "/tenantry.v1.TenantService/ActivateTenant": _P.TENANT_WRITE,
    "/tenantry.v1.TenantService/MaintainTenant": _P.TENANT_WRITE,
    "/tenantry.v1.TenantService/AlertTenant": _P.TENANT_WRITE,
    "/tenantry.v1.TenantService/MoveTenants": _P.TENANT_WRITE,
    "/tenantry.v1.TenantService/RekeyTenant": _P.TENANT_WRITE,
    "/tenantry.v1.TenantService/ResolveQuarantine": _P.TENANT_WRITE,
    "/tenantry.v1.TenantService/DeleteTenant": _P.TENANT_WRITE,
    "/tenantry.v1.TenantService/WatchTenants": _P.TENANT_READ,
    "/tenantry.v1.StreamService/ListStreams": _P.STREAM_READ,
    "/tenantry.v1.StreamService/ReadRecords": _P.STREAM_READ,
    "/tenantry.v1.StreamService/TailRecords": _P.STREAM_READ,
    "/tenantry.v1.StreamService/ListGaps": _P.STREAM_READ,
    "/tenantry.v1.AuthorityService/ListAuthorities": _P.AUTHORITY_READ,
    "/tenantry.v1.AuthorityService/PrepareAuthority": _P.AUTHORITY_WRITE,
    "/tenantry.v1.AuthorityService/ActivateAuthority": _P.AUTHORITY_WRITE,
    "/tenantry.v1.AuthorityService/RetireAuthority": _P.AUTHORITY_WRITE,
    "/tenantry.v1.MasterService/GetMaster": _P.MASTER_READ,
    "/grpc.health.v1.Health/Check": _P.ANYBODY,
    "/grpc.health.v1.Health/List": _P.ANYBODY,
    "/grpc.health.v1.Health/Watch": _P.ANYBODY,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _P.DESCRIBE,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": _P.DESCRIBE,
    "/grpc.channelz.v1.Channelz/GetTopChannels": _P.DESCRIBE,
    "/grpc.channelz.v1.Channelz/GetServers": _P.DESCRIBE,
    "/grpc.channelz.v1.Channelz/GetServer": _P.DESCRIBE,
    "/grpc.channelz.v1.Channelz/GetServerSockets": _P.DESCRIBE,
    "/grpc.channelz.v1.Channelz/GetChannel": _P.DESCRIBE,
    "/grpc.channelz.v1.Channelz/GetSubchannel": _P.DESCRIBE,
    "/grpc.channelz.v1.Channelz/GetSocket": _P.DESCRIBE,
}

WRITES: Final = frozenset({_P.TENANT_WRITE, _P.AUTHORITY_WRITE})
"""What is audited when it is refused; what is done is audited with the deed."""

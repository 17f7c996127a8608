"""How a Tenant looks to people: the cells of lists and live tables, and the details of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

from tenantry.cli.documents import enum_word
from tenantry.cli.escaping import escape
from tenantry.cli.moments import ago, duration_ms, length, local_time, timestamp_ms
from tenantry.cli.output import Cell, Column
from tenantry.cli.privacy_words import write_privacy
from tenantry.process.durations import format_milliseconds
from tenantry.v1 import tenant_pb2 as pb

STATE_COLOURS: Final[Mapping[int, str]] = {
    pb.TENANT_STATE_UNREGISTERED: "bright_black",
    pb.TENANT_STATE_MAINTENANCE: "blue",
    pb.TENANT_STATE_ACTIVE: "green",
    pb.TENANT_STATE_ALERT: "red",
    pb.TENANT_STATE_DELETED: "bright_black",
}
CONNECTIVITY_COLOURS: Final[Mapping[int, str]] = {
    pb.CONNECTIVITY_NEVER_CONNECTED: "bright_black",
    pb.CONNECTIVITY_CONNECTED: "green",
    pb.CONNECTIVITY_STALE: "yellow",
    pb.CONNECTIVITY_LOST: "red",
    pb.CONNECTIVITY_LEFT: "cyan",
}
_HIGH: Final = 0.9
_RAISED: Final = 0.75
_FRESH_MS: Final = 15_000


def one_line(tenant: pb.Tenant) -> str:
    """Names and GUID within a sentence, escaped."""
    return escape(f"{tenant.tenant_name}/{tenant.instance_name} ({tenant.guid})")


def state_word(state: int) -> str:
    """`Active` for TENANT_STATE_ACTIVE."""
    return enum_word(pb.TenantState.DESCRIPTOR, state).capitalize()


def connectivity_word(connectivity: int) -> str:
    """`never connected` for CONNECTIVITY_NEVER_CONNECTED."""
    return enum_word(pb.Connectivity.DESCRIPTOR, connectivity).lower().replace("_", " ")


def goodbye_word(reason: int) -> str:
    """`upgrade` for GOODBYE_REASON_UPGRADE."""
    return enum_word(pb.GoodbyeReason.DESCRIPTOR, reason).lower()


def state_cell(tenant: pb.Tenant) -> Cell:
    """The state, and whether a second machine claims to be this Tenant."""
    word = state_word(tenant.state)
    if tenant.HasField("quarantine"):
        return Cell(f"{word} ! quarantine", "magenta")
    return Cell(word, STATE_COLOURS.get(tenant.state))


def connectivity_cell(tenant: pb.Tenant) -> Cell:
    """What the link shows; for who left, why and until when."""
    word = connectivity_word(tenant.connectivity)
    if tenant.connectivity == pb.CONNECTIVITY_LEFT and tenant.HasField("leave"):
        word += f" ({goodbye_word(tenant.leave.reason)})"
        if tenant.leave.HasField("until"):
            word += f" until {local_time(timestamp_ms(tenant.leave.until))[11:16]}"
    return Cell(word, CONNECTIVITY_COLOURS.get(tenant.connectivity))


def share_cell(usage: pb.Usage, name: str) -> Cell:
    """A share in percent; `-` while it is not known."""
    if not usage.HasField(name):  # type: ignore[arg-type]
        return Cell("-", "bright_black")
    share = getattr(usage, name)
    return Cell(f"{share:.1%}", "red" if share >= _HIGH else "yellow" if share >= _RAISED else None)


def heartbeat_cell(tenant: pb.Tenant, now: int) -> Cell:
    """How long ago the Master heard it."""
    if not tenant.HasField("last_heartbeat"):
        return Cell("-", "bright_black")
    heard = timestamp_ms(tenant.last_heartbeat)
    return Cell(ago(heard, now), None if now - heard <= _FRESH_MS else "yellow")


def spool_cell(tenant: pb.Tenant) -> Cell:
    """What waits on the Tenant's disk: records that are not acknowledged, and the size of the file."""
    if not tenant.HasField("spool"):
        return Cell("-", "bright_black")
    spool = tenant.spool
    return Cell(f"{spool.unacknowledged_records:,} rec, {size(spool.bytes)}")


def size(count: int) -> str:
    """Bytes for people."""
    figure = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if figure < 1024:
            return f"{figure:.0f} {unit}" if unit == "B" else f"{figure:.1f} {unit}"
        figure /= 1024
    return f"{figure:.1f} TiB"


def list_columns(now: int) -> list[Column[pb.Tenant]]:
    """The columns of `tenant list` and of the live table. `now`: the Master's clock in Unix milliseconds."""
    return [
        Column("NAME", lambda tenant: tenant.tenant_name, flexible=True),
        Column("INSTANCE", lambda tenant: tenant.instance_name, flexible=True),
        Column("STATE", state_cell),
        Column("CONNECTIVITY", connectivity_cell),
        Column("CPU", lambda tenant: share_cell(tenant.usage, "cpu"), right=True),
        Column("MEMORY", lambda tenant: share_cell(tenant.usage, "memory"), right=True),
        Column("DISK", lambda tenant: share_cell(tenant.usage, "disk"), right=True),
        Column("HEARTBEAT", partial(heartbeat_cell, now=now), right=True),
        Column("SPOOL", spool_cell, right=True),
    ]


def details(tenant: pb.Tenant, now: int) -> Iterator[tuple[str, Cell | str]]:
    """Everything of one Tenant, label and value; what is not known has an empty value."""

    def moment(name: str) -> str:
        if not tenant.HasField(name):  # type: ignore[arg-type]
            return ""
        milliseconds = timestamp_ms(getattr(tenant, name))
        relative = ago(milliseconds, now) if milliseconds <= now else f"in {length(milliseconds - now)}"
        return f"{local_time(milliseconds)} ({relative})"

    yield "Name", tenant.tenant_name
    yield "Instance", tenant.instance_name
    yield "GUID", tenant.guid
    yield "Description", tenant.description
    yield "Tags", ", ".join(tenant.tags)
    yield "Recipients", ", ".join(tenant.recipients)
    yield "Privacy", write_privacy(tenant.privacy) if tenant.privacy.kind else ""
    yield "State", state_cell(tenant)
    yield "  since", moment("state_since")
    yield "  reason", tenant.state_reason
    yield "Connectivity", connectivity_cell(tenant)
    yield "  since", moment("connectivity_since")
    if tenant.HasField("leave"):
        yield "  note", tenant.leave.note
    yield "Last heartbeat", moment("last_heartbeat")
    yield "Host", tenant.host_name
    yield "Address", tenant.peer_address
    yield "Daemon", tenant.daemon_version
    if tenant.HasField("clock_offset"):
        yield "Clock", _clock(duration_ms(tenant.clock_offset))
    if tenant.HasField("usage"):
        yield "CPU", share_cell(tenant.usage, "cpu")
        yield "Memory", share_cell(tenant.usage, "memory")
        yield "Disk", share_cell(tenant.usage, "disk")
    if tenant.HasField("spool"):
        yield "Spool", f"{spool_cell(tenant).text} of {size(tenant.spool.capacity_bytes)}"
        if tenant.spool.HasField("oldest_unacknowledged"):
            yield "  oldest", ago(timestamp_ms(tenant.spool.oldest_unacknowledged), now)
    yield from _configuration(tenant)
    if tenant.HasField("certificate"):
        yield "Certificate", tenant.certificate.serial
        yield "  until", local_time(timestamp_ms(tenant.certificate.not_after))
    yield "Key hash", tenant.key_hash
    yield "Key works until", moment("key_expire_time")
    if tenant.HasField("quarantine"):
        quarantine = tenant.quarantine
        yield "Quarantine", Cell(quarantine.cause, "magenta")
        yield "  since", local_time(timestamp_ms(quarantine.since))
        yield "  goes on", quarantine.kept_peer or "-"
        yield "  refused", f"{quarantine.refused_peer} ({quarantine.refusals} times)"
        yield "  decide", f"tenantry tenant quarantine {tenant.guid} --keep current|newcomer"
    yield "Created", moment("create_time")
    yield "Changed", moment("update_time")
    yield "Deleted", moment("delete_time")
    yield "Etag", tenant.etag


def _configuration(tenant: pb.Tenant) -> Iterator[tuple[str, Cell | str]]:
    configuration = tenant.configuration
    if configuration.HasField("heartbeat_interval"):
        yield "Heartbeat every", format_milliseconds(max(0, duration_ms(configuration.heartbeat_interval)))
    intervals = sorted(configuration.probe_intervals.items())
    yield (
        "Probes",
        ", ".join(f"{name}={format_milliseconds(max(0, duration_ms(value)))}" for name, value in intervals),
    )
    yield "Probes off", ", ".join(configuration.disabled_probes)
    if tenant.HasField("configuration_status"):
        status = tenant.configuration_status
        running = f"wanted {status.wanted_version}, running {status.running_version or '-'}"
        yield "Configuration", Cell(running, None if status.wanted_version == status.running_version else "yellow")
        if status.failed_version:
            yield "  refused", Cell(f"{status.failed_version}: {status.failure}", "red")


def _clock(offset_ms: int) -> str:
    if abs(offset_ms) < 1_000:
        return "agrees with the Master's"
    return f"{length(abs(offset_ms))} {'ahead of' if offset_ms > 0 else 'behind'} the Master's"

"""How a tunnel looks to people: the cells of lists, and the details of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Literal

from tenantry.cli.documents import enum_word
from tenantry.cli.moments import ago, duration_ms, local_time, timestamp_ms
from tenantry.cli.output import Cell, Column
from tenantry.cli.tenant_view import size
from tenantry.process.durations import format_milliseconds
from tenantry.protocol.tunnels.ends import end_of_number
from tenantry.protocol.tunnels.targets import Target
from tenantry.v1 import tunnel_pb2 as pb

_STATE_COLOURS: Final = {
    pb.TUNNEL_STATE_ASKED: "yellow",
    pb.TUNNEL_STATE_WAITING_FOR_CONSENT: "yellow",
    pb.TUNNEL_STATE_OPEN: "green",
    pb.TUNNEL_STATE_CLOSED: "bright_black",
}


def tunnel_columns(name_of: Callable[[str], str], now: int, *, ended: bool) -> list[Column[pb.Tunnel]]:
    """The columns of a list. `name_of` knows a Tenant's names by GUID; `now` is the Master's clock in Unix milliseconds."""
    columns: list[Column[pb.Tunnel]] = [
        Column("ID", lambda one: one.id),
        Column("TENANT", lambda one: name_of(one.tenant), flexible=True),
        Column("OPERATOR", lambda one: one.operator, flexible=True),
        Column("TARGETS", _targets, flexible=True),
        Column("STATE", state_cell),
        Column("ASKED", lambda one: ago(timestamp_ms(one.create_time), now), right=True),
        Column("CONNECTIONS", _connections, right=True),
        Column("UP", lambda one: size(one.bytes_up), right=True),
        Column("DOWN", lambda one: size(one.bytes_down), right=True),
        Column("UNTIL", lambda one: local_time(timestamp_ms(one.end_time)) if one.HasField("end_time") else ""),
    ]
    if ended:
        columns.append(Column("END", end_words, flexible=True))
    return columns


def tunnel_details(tunnel: pb.Tunnel, name: str) -> Iterator[tuple[str, Cell | str]]:
    """What there is to know of one tunnel, at the Tenant called `name`."""

    def moment(field: Literal["create_time", "open_time", "end_time"]) -> str:
        return local_time(timestamp_ms(getattr(tunnel, field))) if tunnel.HasField(field) else ""

    over = tunnel.state == pb.TUNNEL_STATE_CLOSED
    yield "Tunnel", tunnel.id
    yield "Tenant", f"{name} ({tunnel.tenant})"
    yield "State", state_cell(tunnel)
    yield "Operator", tunnel.operator
    yield "From", tunnel.address
    yield "Targets", _targets(tunnel)
    yield "Reason", tunnel.reason
    yield "Asked", moment("create_time")
    yield "Open", moment("open_time")
    yield "Ended" if over else "Until", moment("end_time")
    yield "Why", end_words(tunnel)
    yield (
        "Idle limit",
        format_milliseconds(-(-duration_ms(tunnel.idle_limit) // 1000) * 1000) if tunnel.HasField("idle_limit") else "",
    )
    yield "Connections", f"{tunnel.connections:,}, {tunnel.open_connections:,} of them open"
    yield "Sent to targets", size(tunnel.bytes_up)
    yield "Come back", size(tunnel.bytes_down)


def state_cell(tunnel: pb.Tunnel) -> Cell:
    """`open`, or what it waits for."""
    word = enum_word(pb.TunnelState.DESCRIPTOR, tunnel.state).lower().replace("_", " ")
    return Cell(word, _STATE_COLOURS.get(tunnel.state))


def end_words(tunnel: pb.Tunnel) -> str:
    """Why it is over; empty while it is not."""
    if tunnel.end == pb.TUNNEL_END_UNSPECIFIED:
        return ""
    known = end_of_number(tunnel.end)
    said = known.describe() if known else enum_word(pb.TunnelEnd.DESCRIPTOR, tunnel.end)
    return f"{said}: {tunnel.end_detail}" if tunnel.end_detail and tunnel.end_detail != said else said


def _connections(tunnel: pb.Tunnel) -> str:
    return f"{tunnel.open_connections:,}/{tunnel.connections:,}"


def _targets(tunnel: pb.Tunnel) -> str:
    shown = [str(Target(target.host, target.port)) for target in tunnel.targets]
    return ", ".join(shown) or "whatever the Tenant allows"

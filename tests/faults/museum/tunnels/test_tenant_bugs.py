"""The museum of the Tenant's end of tunnels: each bug is brought back, and a check must find it."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tenantry.daemon.console import answering
from tenantry.daemon.domain import tunnel_policy
from tenantry.daemon.domain.tunnel_policy import Admission, Refusal
from tenantry.daemon.tunnels import dialling, serving
from tenantry.daemon.tunnels.dialling import Dialler
from tenantry.daemon.tunnels.tickets import Tickets
from tenantry.protocol.addresses import Address, read_address
from tenantry.protocol.tunnels.papers import UsedOnce
from tenantry.protocol.tunnels.targets import Target
from tests.daemon.console.test_local_console import test_who_comes_through_a_tunnel_is_not_at_the_machine as visit
from tests.daemon.tunnels.serving import running_site
from tests.daemon.tunnels.test_dialling import test_a_name_is_resolved_once as rebind
from tests.daemon.tunnels.test_dialling import test_a_name_that_is_not_listed_is_not_resolved as ask_for_names
from tests.daemon.tunnels.test_dialling import (
    test_an_address_with_consent_is_dialled_for_a_tunnel_that_has_it_only as rename,
)
from tests.daemon.tunnels.test_dialling import test_no_canary_is_reached_by_any_spelling_or_disguise as disguise
from tests.daemon.tunnels.test_serving import LOOPBACK
from tests.daemon.tunnels.test_serving import (
    test_a_policy_that_becomes_stricter_counts_for_what_is_open as tighten,
)
from tests.daemon.tunnels.test_serving import test_papers_count_once_here_and_now as replay
from tests.daemon.tunnels.test_serving import (
    test_the_log_says_where_a_tunnel_led_before_anything_goes_there as follow,
)

FOUND = (AssertionError, TimeoutError, pytest.fail.Exception)
"""How a check says that it has found something."""


@asynccontextmanager
async def _echo():  # type: ignore[no-untyped-def]
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Target("127.0.0.1", server.sockets[0].getsockname()[1])


async def _replay(folder: Path) -> None:
    async with running_site(folder, LOOPBACK) as site, _echo() as echo, asyncio.timeout(6):
        await replay(site, echo)


async def _tighten(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        async with running_site(folder, LOOPBACK) as site, _echo() as echo, asyncio.timeout(6):
            await tighten(site, echo, patch)


async def _follow(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        async with _echo() as echo, asyncio.timeout(10):
            await follow(folder, echo, patch)


def _without_folder(check: Callable[[], Awaitable[None]]) -> Callable[[Path], Awaitable[None]]:
    async def run(_folder: Path) -> None:
        await check()

    return run


def _check_then_resolve(patch: pytest.MonkeyPatch) -> None:
    """The name is looked up once more for the connection: whoever answers for it has changed the address meanwhile."""
    look_up, connect = Dialler.look_up, dialling._connect
    asked: list[tuple[Dialler, Target]] = []

    async def remember(self: Dialler, target: Target) -> list[Address]:
        asked.append((self, target))
        return await look_up(self, target)

    async def resolve_again(addresses: list[Address], port: int) -> socket.socket:
        dialler, target = asked.pop() if asked else (None, None)
        again = addresses if dialler is None or target is None else await look_up(dialler, target)
        return await connect(again, port)

    patch.setattr(Dialler, "look_up", remember)
    patch.setattr(dialling, "_connect", resolve_again)


def _first_address_alone(patch: pytest.MonkeyPatch) -> None:
    """Of several addresses of a name one is judged, and the others are tried when that one does not answer."""
    judge = tunnel_policy.may_be_dialled

    def first(policy: object, target: Target, addresses: list[Address], forbidden: object) -> bool:
        return judge(policy, target, addresses[:1], forbidden)  # type: ignore[arg-type]

    patch.setattr(dialling, "may_be_dialled", first)


def _any_spelling(patch: pytest.MonkeyPatch) -> None:
    """What is no address in its usual spelling is taken for a name, and the resolver takes it for an address."""

    def lenient(text: str) -> Address | str | None:
        return read_address(text) or text.lower()

    patch.setattr(tunnel_policy, "read_host", lenient)
    patch.setattr(dialling, "read_host", lenient)
    patch.setattr(tunnel_policy.Allowed, "covers_name", lambda _self, _name: True)
    patch.setattr(tunnel_policy, "_belongs_to_name", lambda *_: True)


def _everything_is_everything(patch: pytest.MonkeyPatch) -> None:
    """An entry for all addresses is taken at its word."""
    patch.setattr(tunnel_policy, "special_network", lambda _address: None)


def _oracle(patch: pytest.MonkeyPatch) -> None:
    """Every name is resolved first, and judged afterwards."""
    patch.setattr(dialling, "may_be_asked", lambda *_: True)


def _consent_by_spelling(patch: pytest.MonkeyPatch) -> None:
    """Whether consent is needed is seen from what was asked for, and not from where that leads."""
    judge = tunnel_policy.leads_to_consent
    patch.setattr(dialling, "leads_to_consent", lambda policy, target, _addresses: judge(policy, target, ()))


def _consent_once(patch: pytest.MonkeyPatch) -> None:
    """A tunnel that is open is not asked for consent, whatever the policy says by now."""
    judge = tunnel_policy.judge_tunnel

    def forget(*arguments: Any) -> Admission | Refusal:
        judged = judge(*arguments)
        return replace(judged, consent=False) if isinstance(judged, Admission) else judged

    patch.setattr(serving, "judge_tunnel", forget)


def _log_at_the_end_alone(patch: pytest.MonkeyPatch) -> None:
    """A connection is written down when it is over, and never when the daemon is killed first."""

    async def say_nothing(*_: object) -> None:
        pass

    patch.setattr(Tickets, "_reached", say_nothing)


def _ticket_reusable(patch: pytest.MonkeyPatch) -> None:
    """Nobody remembers what was used."""
    patch.setattr(UsedOnce, "take", lambda *_: None)


def _one_door(patch: pytest.MonkeyPatch) -> None:
    """Who comes through a tunnel is taken for somebody at the machine."""
    begin = answering.Answering.__init__

    def forget(self: answering.Answering, *arguments: object, **_through: object) -> None:
        begin(self, *arguments)  # type: ignore[arg-type]

    patch.setattr(answering.Answering, "__init__", forget)


@pytest.mark.parametrize(
    ("plant", "check"),
    [
        (_check_then_resolve, _without_folder(rebind)),
        (_first_address_alone, _without_folder(disguise)),
        (_any_spelling, _without_folder(disguise)),
        (_everything_is_everything, _without_folder(disguise)),
        (_oracle, _without_folder(ask_for_names)),
        (_consent_by_spelling, _without_folder(rename)),
        (_consent_once, _tighten),
        (_log_at_the_end_alone, _follow),
        (_ticket_reusable, _replay),
        (_one_door, _without_folder(visit)),
    ],
    ids=lambda one: one.__name__.strip("_") if one.__name__ != "run" else "",
)
async def test_a_planted_bug_is_found(
    plant: Callable[[pytest.MonkeyPatch], None],
    check: Callable[[Path], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The check passes without the bug (in its own file), and fails with it."""
    plant(monkeypatch)
    with pytest.raises((*FOUND, ExceptionGroup)):
        await check(tmp_path)

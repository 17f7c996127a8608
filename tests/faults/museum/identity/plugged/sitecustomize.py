"""Brings one bug back into a program whose environment names it: Python imports this module at its start, from PYTHONPATH."""

import os

BUG = os.environ.get("TENANTRY_MUSEUM_BUG", "")


def _fetch_then_delete() -> None:
    """The key is looked up in one transaction and used up in another, without a condition."""
    from typing import Any

    from sqlalchemy import update

    from tenantry.master.rpc.enrolment_service import EnrolmentServicer
    from tenantry.master.sql.keys import KeyStore
    from tenantry.master.sql.tables import enrolment_keys as table
    from tenantry.protocol.failures import EnrolmentRefused
    from tenantry.protocol.joining import KEY_PREFIX, parse_secret

    right = EnrolmentServicer._enrol

    async def enrol(self: EnrolmentServicer, request: Any, actor: Any) -> Any:
        secret = parse_secret(request.key, KEY_PREFIX)
        if secret is None:
            raise EnrolmentRefused
        found = await self._committer.run(lambda transaction: transaction.keys.find(secret.id))
        if found is None or found.hash != secret.hash or found.used_ms is not None:
            raise EnrolmentRefused
        return await right(self, request, actor)

    def use(self: KeyStore, key_id: str, key_hash: str, guid: str, public_key: str, now_ms: int, grace_ms: int) -> Any:
        del key_hash, guid, grace_ms
        values = {"used_ms": now_ms, "public_key": public_key}
        self._connection.execute(update(table).where(table.c.id == key_id).values(**values))
        return self.find(key_id)

    EnrolmentServicer._enrol = enrol  # type: ignore[method-assign]
    KeyStore.use = use  # type: ignore[method-assign]


def _revoke_by_task_cancel() -> None:
    """A link is cut by cancelling the task that serves it: gRPC then tells the other end nothing."""
    import asyncio
    from typing import Any

    from tenantry.master.operations.links import LinkSession

    tasks: dict[int, asyncio.Task[Any] | None] = {}
    right = LinkSession.__init__

    def begin(self: LinkSession, *arguments: Any, **named: Any) -> None:
        right(self, *arguments, **named)
        tasks[id(self)] = asyncio.current_task()

    def cut(self: LinkSession, failure: Exception) -> None:
        del failure
        task = tasks.get(id(self))
        if task is not None:
            task.cancel()

    LinkSession.__init__ = begin  # type: ignore[method-assign]
    LinkSession.cut = cut  # type: ignore[method-assign]


def _ports_unchecked() -> None:
    """No look at the ports before the start: what is left is gRPC's own refusal."""
    from tenantry.master.commands import checks

    checks._try_port = lambda host, port: None  # noqa: ARG005 - takes what the right one takes


def _so_reuseport_on() -> None:
    """The default of gRPC: several processes share a port without knowing. The check of the ports would hide it."""
    from tenantry.transport import settings

    _ports_unchecked()
    right = settings.server_options

    def server_options(
        *, file_descriptors: int, max_streams_per_connection: int, channelz: bool = False
    ) -> settings.Options:
        options = right(
            file_descriptors=file_descriptors, max_streams_per_connection=max_streams_per_connection, channelz=channelz
        )
        return [("grpc.so_reuseport", 1) if name == "grpc.so_reuseport" else (name, value) for name, value in options]

    settings.server_options = server_options


def _promote_before_continuity() -> None:
    """A certificate counts as used when it is shown, before its machine has proven continuity."""
    from typing import Any

    from tenantry.master.operations import opening

    right = opening.admit

    def admit(transaction: Any, *arguments: Any) -> Any:
        certificate = right(transaction, *arguments)
        opening.make_current(transaction, certificate)
        return transaction.certificates.get(certificate.serial)

    opening.admit = admit  # type: ignore[assignment]


def _filters_forgotten() -> None:
    """The stores show everybody everything: no statement asks any more who is asking."""
    from functools import wraps
    from typing import Any

    from tenantry.master.domain.access import EVERYTHING, Sight
    from tenantry.master.sql.gaps import GapStore
    from tenantry.master.sql.records import RecordStore
    from tenantry.master.sql.rules import RuleStore
    from tenantry.master.sql.tenants import TenantStore

    def unfiltered(right: Any) -> Any:
        @wraps(right)
        def show(self: Any, *arguments: Any) -> Any:
            return right(self, *(EVERYTHING if isinstance(one, Sight) else one for one in arguments))

        return show

    for store, names in (
        (TenantStore, ("page", "count", "counts")),
        (RecordStore, ("page", "last", "after", "summary")),
        (RuleStore, ("page", "count")),
    ):
        for name in names:
            setattr(store, name, unfiltered(getattr(store, name)))
    gaps = GapStore.page
    GapStore.page = lambda self, _ids, *rest: gaps(self, None, *rest)  # type: ignore[method-assign]


def _rules_judge_everybody() -> None:
    """A Tenant's own rules are read as if they were the main tenant's."""
    from collections.abc import Collection

    from tenantry.master.domain.access import MAIN_OWNER
    from tenantry.master.domain.rules import Rule
    from tenantry.master.sql.rules import RuleStore

    right = RuleStore.active

    def active(self: RuleStore, owners: Collection[int]) -> list[Rule]:
        return right(self, self.judging() if MAIN_OWNER in owners else owners)

    RuleStore.active = active  # type: ignore[method-assign]


def _foreign_rules_let_through() -> None:
    """Who may read rules somewhere reads every rule whose id is known."""
    from tenantry.master.domain.rules import Rule
    from tenantry.master.operations.rule_rights import RuleRights
    from tenantry.master.sql.transaction import Transaction

    def find(self: RuleRights, transaction: Transaction, uid: str) -> Rule:
        del self
        return transaction.rules.get(uid)

    RuleRights.find = find  # type: ignore[method-assign]


_BUGS = {
    "rules judge everybody": _rules_judge_everybody,
    "foreign rules let through": _foreign_rules_let_through,
    "filters forgotten": _filters_forgotten,
    "fetch then delete": _fetch_then_delete,
    "revoke by task cancel": _revoke_by_task_cancel,
    "ports unchecked": _ports_unchecked,
    "so_reuseport on": _so_reuseport_on,
    "promote before continuity": _promote_before_continuity,
}

if BUG:
    _BUGS[BUG]()

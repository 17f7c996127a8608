"""Bugs, planted into the real programs: each takes one net of the delivery away. The product knows nothing of them."""

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HOOK = Path(__file__).with_name("hook")
REPOSITORY = Path(__file__).resolve().parents[4]


def planted(*names: str) -> dict[str, str]:
    """The environment of a program with these bugs."""
    assert all(name in BUGS for name in names)
    return {"PYTHONPATH": f"{HOOK}:{REPOSITORY}", "TENANTRY_SEEDED_BUGS": ",".join(names)}


def ack_before_commit() -> None:
    """The Master acknowledges what it is about to store."""
    from tenantry.master.operations import committing
    from tenantry.process.failpoints import failpoint

    def commit(self: committing.Committer, works: Sequence[Any], data: Sequence[Any]) -> list[Any]:
        with self._database.write() as transaction:
            for work in works:
                work.attempt(transaction)
            outcomes = self._ingest.store(transaction, data, self._clocks.wall_ms()) if data else []
            self._loop.call_soon_threadsafe(self._answer, (), outcomes, 0)
            if outcomes:
                time.sleep(0.15)  # the acknowledgements leave and arrive, on a busy machine too
            failpoint("ingest.before_commit")
        failpoint("ingest.after_commit")
        self._ingest.committed()
        return []

    committing.Committer._commit = commit  # type: ignore[method-assign]


def delete_on_write() -> None:
    """The daemon takes what it has written to the stream for delivered, and erases it."""
    from tenantry.daemon.link import session
    from tenantry.daemon.spool.spool import Spool
    from tenantry.protocol.messages import Batch, FromDaemon

    send = session.Session._send

    async def send_and_delete(self: session.Session, call: Any, message: FromDaemon, *, noted: bool = False) -> None:
        await send(self, call, message, noted=noted)
        spool = self._outbox
        if isinstance(message, Batch) and isinstance(spool, Spool):
            spool._trimmed_ms = 0
            await Spool.acknowledge(spool, message.stream, message.last_seq, time.time_ns() // 1_000_000)

    session.Session._send = send_and_delete  # type: ignore[method-assign]


def no_epoch() -> None:
    """A new spool has the epoch of the old one."""
    from tenantry.daemon.spool import keeping

    begin = keeping.SpoolKeeper._begin

    @contextmanager
    def one_epoch() -> Iterator[None]:
        real = os.urandom
        os.urandom = bytes
        try:
            yield
        finally:
            os.urandom = real

    def begin_again(self: keeping.SpoolKeeper, *arguments: Any) -> Any:
        with one_epoch():
            return begin(self, *arguments)

    vars(keeping)["SpoolKeeper"]._begin = begin_again


def deduplication_off() -> None:
    """The Master stores every batch of metrics that it gets."""
    from tenantry.master.operations import ingesting
    from tenantry.protocol.delivery import HighWater, Store, Verdict, judge
    from tenantry.protocol.messages import Batch, Loss, Stream

    def store_always(mark: HighWater, message: Batch | Loss) -> Verdict:
        if isinstance(message, Loss) or message.stream is not Stream.METRICS:
            return judge(mark, message)
        after = HighWater(max(mark.last_seq, message.last_seq), message.chain)
        return Store(message.records, message.first_seq, after)

    vars(ingesting)["judge"] = store_always


def resume_off() -> None:
    """The daemon sends everything that it holds, whatever the Master says that it has."""
    from tenantry.protocol import daemon_link
    from tenantry.protocol.delivery import ResumePlan

    vars(daemon_link)["plan_resume"] = lambda *_arguments: ResumePlan(0, 1, None)


def hole_not_declared() -> None:
    """The Master goes on after a declared loss, and forgets to write it down."""
    from tenantry.master.sql.gaps import GapStore

    GapStore.append = lambda *_arguments: None  # type: ignore[method-assign]


def no_fence() -> None:
    """A mark is moved by any link, also by one that a newer link has replaced."""
    from tenantry.master.sql import marks

    advance = marks.MarkStore.advance

    def unfenced(store: marks.MarkStore, moves: Sequence[marks.MarkMove]) -> None:
        fences = store._known([move.tenant_id for move in moves]).fences
        advance(store, [move._replace(incarnation=fences[move.tenant_id]) for move in moves])

    marks.MarkStore.advance = unfenced  # type: ignore[assignment, method-assign]


def ping_timeout_removed() -> None:
    """Only the settings that look as if they did it, and pings whose answers nobody awaits."""
    from tenantry.master.http2 import limits
    from tenantry.transport import settings

    settings._BOTH[:] = [option for option in settings._BOTH if option[0] != "grpc.http2.ping_timeout_ms"]
    vars(limits)["PING_S"] = 60.0


def port_shared() -> None:
    """What gRPC does unless it is told otherwise, and what a server of our own could do too."""
    from tenantry.master.http2 import server
    from tenantry.transport import settings

    options = settings.server_options

    def sharing(**arguments: Any) -> settings.Options:
        return [option for option in options(**arguments) if option[0] != "grpc.so_reuseport"]

    settings.server_options = sharing

    def listener(family: int, kind: int, protocol: int, address: Any) -> socket.socket:
        one = socket.socket(family, kind, protocol)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(address)
        one.listen()
        return one

    vars(server)["_listener"] = listener


def port_not_tried() -> None:
    """No look at the ports before the start; two that start at the same moment have no use of it either."""
    from tenantry.master.commands import checks

    checks._try_port = lambda *_arguments: None


BUGS: dict[str, Callable[[], None]] = {
    bug.__name__: bug
    for bug in (
        ack_before_commit,
        delete_on_write,
        no_epoch,
        deduplication_off,
        resume_off,
        hole_not_declared,
        no_fence,
        ping_timeout_removed,
        port_not_tried,
        port_shared,
    )
}

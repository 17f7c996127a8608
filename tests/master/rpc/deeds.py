"""For each RPC that changes something: a call of it that succeeds, and the record that it has to leave in the audit."""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.servers.master import MasterProcess
from tests.servers.operating import STUBS
from tests.servers.people import Metadata
from tests.servers.signing_in import (
    Person,
    administrator,
)
from tests.servers.wire_tenant import create_tenant


@dataclass(frozen=True)
class Deed:
    """One request, who makes it, and what the audit says of it; ``guid`` of the Tenant that it is about."""

    request: Any
    action: str
    guid: str = ""
    person: Person | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    again: bool = False
    """The same request may be made a second time: nothing changes then, and that it was made is written down."""


Case = Callable[[MasterProcess], Awaitable[Deed]]


class Cases(dict[str, Case]):
    """Deeds by the names of their RPCs."""

    def of(self, *methods: str) -> Callable[[Case], Case]:
        """Registers a case under the names of its RPCs."""

        def register(case: Case) -> Case:
            self.update(dict.fromkeys(methods, case))
            return case

        return register


async def perform(master: MasterProcess, service: str, method: str, deed: Deed) -> None:
    """Make the call; of a stream all that it answers."""
    metadata: Metadata = (deed.person or administrator(master)).metadata
    async with master.api_channel() as channel:
        made = getattr(STUBS[service](channel), method)(deed.request, metadata=metadata, timeout=60)
        if isinstance(made, Awaitable):
            await made
        else:
            async for _ in made:
                pass


def fresh_name() -> str:
    """A name that nothing has yet."""
    return f"deed {secrets.token_hex(6)}"


async def registered(master: MasterProcess) -> str:
    """The GUID of a new Tenant."""
    return (await create_tenant(master, fresh_name())).tenant.guid

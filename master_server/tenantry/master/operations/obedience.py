"""Which daemons have said that they work by a state. Lives on the event loop."""

import asyncio
from collections.abc import Iterable
from typing import Self

from tenantry.master.operations.links import LinkDirectory, LinkSession
from tenantry.protocol.messages import TenantState


class Obedience:
    """Waits until the daemons of some Tenants work by ``state``; those without an open link are not waited for.

    A context manager: on exit it stops listening.
    """

    def __init__(self, links: LinkDirectory, state: TenantState, tenant_ids: Iterable[int]) -> None:
        """``tenant_ids`` have been moved to ``state``, durably."""
        self._state = state
        open_links = [link for link in map(links.get, tenant_ids) if link is not None]
        self._pending = {link.tenant_id for link in open_links}
        self._arrived: list[int] = []
        self._complete = asyncio.Event()
        if not open_links:
            self._complete.set()
        for link in open_links:
            self._note(link)
        self._close = links.on_obedience(self._note)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._close()

    def complete(self) -> bool:
        """Whether nobody is waited for any more."""
        return not self._pending

    def take(self) -> list[int]:
        """The Tenants whose daemons have obeyed since the last call, by the store's number."""
        arrived, self._arrived = self._arrived, []
        return arrived

    async def wait(self, seconds: float) -> None:
        """Return when nobody is waited for any more, or after this time."""
        try:
            async with asyncio.timeout(seconds):
                await self._complete.wait()
        except TimeoutError:
            return

    def _note(self, link: LinkSession) -> None:
        if link.tenant_id in self._pending and link.obeys is self._state:
            self._pending.discard(link.tenant_id)
            self._arrived.append(link.tenant_id)
            if not self._pending:
                self._complete.set()

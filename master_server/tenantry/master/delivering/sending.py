"""One attempt at a receiver of whichever kind: what is rendered is sent, within a time, and how it went is said in words."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import structlog

from tenantry.master.delivering.dialling import Dialler, NotReached, why
from tenantry.master.delivering.outgoing import NotTaken, Outgoing
from tenantry.master.delivering.smtp import MailSender
from tenantry.master.delivering.syslog import SyslogSender
from tenantry.master.delivering.templates import RenderFailed, one_line, render
from tenantry.master.delivering.webhook import WebhookSender
from tenantry.master.domain.deliveries import Attempt, clean_outcome
from tenantry.master.domain.receivers import JSON_TYPE, EmailSettings, Settings, WebhookSettings

log = structlog.get_logger()


class Sender:
    """Knows all adapters. ``own_name``: the Master's own host name; ``patience_s``: how long an attempt may take."""

    def __init__(self, dialler: Dialler, own_name: str, patience_s: float) -> None:
        self._patience_s = patience_s
        self._dialler = dialler
        self._mail = MailSender(dialler, own_name)
        self._webhook = WebhookSender(dialler)
        self._syslog = SyslogSender(dialler, own_name)

    def close(self) -> None:
        """No more names are resolved."""
        self._dialler.close()

    async def send(self, outgoing: Outgoing) -> Attempt:
        """Make one attempt. Raises nothing but cancellation."""
        try:
            async with asyncio.timeout(self._patience_s):
                return Attempt(True, clean_outcome(await self._send(outgoing)))
        except NotTaken as error:
            return Attempt(False, clean_outcome(str(error)), permanent=error.permanent, wish_ms=error.wish_ms)
        except NotReached as error:
            return Attempt(False, clean_outcome(str(error)))
        except TimeoutError:
            return Attempt(False, f"no answer within {self._patience_s:g} s")
        except OSError as error:
            return Attempt(False, clean_outcome(f"the connection is lost: {why(error)}"))
        except Exception as error:
            log.error("an attempt failed", kind=outgoing.settings.kind.value, exc_info=error)
            return Attempt(False, f"it cannot be sent ({type(error).__name__})")

    async def _send(self, outgoing: Outgoing) -> str:
        settings = outgoing.settings
        if isinstance(settings, EmailSettings):
            return await self._mail.send(outgoing, settings)
        if isinstance(settings, WebhookSettings):
            return await self._webhook.send(outgoing, settings)
        return await self._syslog.send(outgoing, settings)


def render_all(settings: Settings, content: Mapping[str, Any]) -> dict[str, str]:
    """What each template gives. Raises RenderFailed, which names the template."""
    texts: dict[str, str] = {}
    for name, source in settings.templates().items():
        try:
            texts[name] = render(source, content)
        except RenderFailed as error:
            raise RenderFailed(f"the template of the {name} does not work here: {error}") from None
        if name == "subject" or name.startswith("header "):
            texts[name] = one_line(texts[name])
    if isinstance(settings, WebhookSettings) and settings.content_type.partition(";")[0] == JSON_TYPE:
        try:
            json.loads(texts["payload"])
        except (ValueError, RecursionError):
            raise RenderFailed("the template of the payload does not give JSON here") from None
    return texts

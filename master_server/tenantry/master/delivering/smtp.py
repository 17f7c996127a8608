"""E-mail by SMTP, over a connection that was judged before."""

import contextlib
import datetime as dt
import re
import socket
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime
from typing import Final

from aiosmtplib import SMTP
from aiosmtplib.errors import (
    SMTPAuthenticationError,
    SMTPConnectError,
    SMTPException,
    SMTPNotSupported,
    SMTPRecipientsRefused,
    SMTPResponseException,
    SMTPServerDisconnected,
    SMTPTimeoutError,
)

from tenantry.master.delivering.dialling import Dialler, NotReached, tls_context, why
from tenantry.master.delivering.outgoing import NotTaken, Outgoing
from tenantry.master.delivering.templates import one_line
from tenantry.master.domain.receivers import PASSWORD, EmailSettings, Protection

_CODES: Final = range(200, 600)
_LOST: Final = 421
_REFUSED: Final = range(500, 600)
_SIGN_IN: Final = (530, 534, 535, 538)


class MailSender:
    """Sends one message a connection. ``own_name``: who the Master says it is."""

    def __init__(self, dialler: Dialler, own_name: str) -> None:
        self._dialler = dialler
        self._own_name = re.sub(r"[^A-Za-z0-9.-]", "-", own_name) or "tenantry"

    async def send(self, outgoing: Outgoing, settings: EmailSettings) -> str:
        """How it was taken. Raises NotTaken, NotReached, OSError."""
        destination = settings.destination
        protected = settings.protection is not Protection.NONE
        context = tls_context(settings.authorities) if protected else None
        message = self._message(outgoing, settings)
        connection = await self._dialler.connect(destination)
        client = SMTP(
            hostname=destination.host,
            sock=connection,
            local_hostname=self._own_name,
            use_tls=settings.protection is Protection.TLS,
            start_tls=settings.protection is Protection.STARTTLS,
            tls_context=context,
            timeout=None,
        )
        try:
            await client.connect()
            if settings.user:
                await client.login(settings.user, outgoing.secrets.get(PASSWORD, ""))
            refused, answer = await client.sendmail(settings.sender, list(settings.recipients), message)
            with contextlib.suppress(SMTPException, OSError):  # it has taken the message
                await client.quit()
        except SMTPException as error:
            raise _failure(error) from None
        finally:
            # The transport has the socket now. A server that does not read must not keep it open.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            client.close()
        if refused:
            code = next(iter(refused.values())).code
            return f"taken for {len(settings.recipients) - len(refused)} recipients; {len(refused)} refused ({code})"
        return f"taken: {answer}"

    def _message(self, outgoing: Outgoing, settings: EmailSettings) -> bytes:
        message = EmailMessage(policy=SMTP_POLICY)
        message["Message-ID"] = f"<{outgoing.key}@{self._own_name}>"
        message["Date"] = format_datetime(dt.datetime.fromtimestamp(outgoing.written_ms / 1000, dt.UTC))
        message["From"] = Address(addr_spec=settings.sender)
        message["To"] = tuple(Address(addr_spec=one) for one in settings.recipients)
        message["Subject"] = one_line(outgoing.texts["subject"])
        message["Auto-Submitted"] = "auto-generated"
        message["X-Tenantry-Delivery"] = outgoing.key
        message.set_content(outgoing.texts["body"])
        return message.as_bytes()


def _failure(error: SMTPException) -> NotTaken | NotReached:
    """What the server said, as far as it speaks SMTP: whatever else listens on a port says nothing to those who may not ask it."""
    cause = error.__cause__
    if isinstance(error, SMTPAuthenticationError):
        return NotTaken(f"the mail server refuses to let it sign in ({error.code})")
    if isinstance(error, SMTPRecipientsRefused):
        codes = {one.code for one in error.recipients}
        permanent = all(code in _REFUSED and code not in _SIGN_IN for code in codes)
        return NotTaken(f"all recipients are refused ({', '.join(map(str, sorted(codes)))})", permanent=permanent)
    if isinstance(error, SMTPResponseException):
        if error.code not in _CODES:
            return NotTaken("the server does not speak SMTP")
        permanent = error.code in _REFUSED and error.code not in _SIGN_IN
        return NotTaken(f"refused: {error.code} {error.message}", permanent=permanent)
    if isinstance(error, SMTPNotSupported) or type(error) is SMTPException:
        return NotTaken("the mail server does not offer what the receiver asks for (STARTTLS, or a way to sign in)")
    if isinstance(error, SMTPTimeoutError):
        return NotTaken("the mail server does not answer")
    if isinstance(error, SMTPConnectError | SMTPServerDisconnected):
        detail = why(cause) if isinstance(cause, OSError) and not isinstance(cause, SMTPException) else "it hung up"
        return NotTaken(f"the connection to the mail server is lost: {detail}")
    return NotTaken("the mail server does not do what the receiver asks for")

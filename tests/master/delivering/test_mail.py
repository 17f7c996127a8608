"""E-mail, against aiosmtpd: in the clear, with STARTTLS, with TLS, with a password, and what is refused in words."""

import email
import email.policy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tenantry.master.domain.receivers import PASSWORD, EmailSettings, Protection
from tests.master.delivering.outgoings import KEY, outgoing, sender
from tests.servers.receiving import MAIL_PASSWORD, MAIL_USER, Letter, MailServer, running_mail_server


def settings(server: MailServer, protection: Protection, **changes: object) -> EmailSettings:
    """A receiver at this server."""
    made = EmailSettings(
        "localhost",
        server.port,
        protection,
        sender="master@example.org",
        recipients=("a@example.org", "b@example.org"),
        authorities=server.authorities,
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # fields of the settings


def read(letter: Letter) -> email.message.EmailMessage:
    """The letter as a mail program reads it."""
    found = email.message_from_bytes(letter.content, policy=email.policy.default)
    assert isinstance(found, email.message.EmailMessage)
    return found


@pytest.mark.parametrize("protection", list(Protection))
async def test_a_letter_arrives(tmp_path: Path, protection: Protection) -> None:
    """With its key as Message-ID, both recipients, a date, and names that are not ASCII."""
    ways: dict[str, Any] = {"starttls": protection is Protection.STARTTLS, "tls": protection is Protection.TLS}
    with running_mail_server(tmp_path / "mail", **ways) as server:
        attempt = await sender().send(outgoing(settings(server, protection)))
    assert attempt.taken, attempt.detail
    (letter,) = server.letters
    assert (letter.sender, letter.recipients) == ("master@example.org", ("a@example.org", "b@example.org"))
    message = read(letter)
    assert message["Message-ID"] == f"<{KEY}@master.example.org>"
    assert message["Subject"] == "[critical] Müller & Söhne / web-1: busy"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"] == "Thu, 09 Oct 2025 08:53:20 +0000"
    assert "system.cpu.utilization is 0.97" in message.get_content()


@pytest.mark.parametrize("protection", [Protection.STARTTLS, Protection.TLS])
async def test_who_sends_signs_in(tmp_path: Path, protection: Protection) -> None:
    """With the right password; a wrong one is refused in words, and is not given up."""
    ways: dict[str, Any] = {"starttls": protection is Protection.STARTTLS, "tls": protection is Protection.TLS}
    with running_mail_server(tmp_path / "mail", sign_in=True, **ways) as server:
        made = settings(server, protection, user=MAIL_USER)
        right = await sender().send(outgoing(made, {PASSWORD: MAIL_PASSWORD}))
        wrong = await sender().send(outgoing(made, {PASSWORD: "wrong"}))
        nobody = await sender().send(outgoing(settings(server, protection)))
    assert right.taken, right.detail
    assert [letter.user for letter in server.letters] == [MAIL_USER]
    assert (wrong.taken, wrong.permanent) == (False, False)
    assert wrong.detail == "the mail server refuses to let it sign in (535)"
    assert not nobody.taken
    assert "530" in nobody.detail
    assert not nobody.permanent, "somebody can still give it a password"


@pytest.mark.parametrize("protection", [Protection.STARTTLS, Protection.TLS])
async def test_a_strange_certificate_gets_nothing(tmp_path: Path, protection: Protection) -> None:
    """Of an authority that is not trusted, or for another name: no letter, and the reason is said."""
    ways: dict[str, Any] = {"starttls": protection is Protection.STARTTLS, "tls": protection is Protection.TLS}
    with running_mail_server(tmp_path / "one", **ways) as server:
        strange = await sender().send(outgoing(settings(server, protection, authorities="")))
    with running_mail_server(tmp_path / "two", name="other.example.org", **ways) as other:
        misnamed = await sender().send(outgoing(settings(other, protection)))
    assert server.letters + other.letters == []
    assert "certificate is not accepted" in strange.detail, strange.detail
    assert "certificate is not accepted" in misnamed.detail, misnamed.detail
    assert not (strange.permanent or misnamed.permanent)


async def test_a_server_without_starttls_gets_nothing(tmp_path: Path) -> None:
    """What asks for STARTTLS never goes on in the clear."""
    with running_mail_server(tmp_path / "mail") as server:
        attempt = await sender().send(outgoing(settings(server, Protection.STARTTLS)))
    assert server.letters == []
    assert "does not offer" in attempt.detail


async def test_a_refusal_is_for_good_or_for_now(tmp_path: Path) -> None:
    """5xx about the message or all recipients ends it, 4xx does not; one recipient of two is enough."""
    with running_mail_server(tmp_path / "mail") as server:
        made = settings(server, Protection.NONE)
        server.refuses = {"a@example.org"}
        one = await sender().send(outgoing(made))
        server.refuses = {"a@example.org", "b@example.org"}
        nobody = await sender().send(outgoing(made))
        server.refuses = set()
        server.answers = "552 too big"
        never = await sender().send(outgoing(made))
        server.answers = "451 later"
        later = await sender().send(outgoing(made))
    assert (one.taken, one.detail) == (True, "taken for 1 recipients; 1 refused (550)")
    assert (nobody.taken, nobody.permanent) == (False, True)
    assert (never.taken, never.permanent, never.detail) == (False, True, "refused: 552 too big")
    assert (later.taken, later.permanent) == (False, False)


async def test_nothing_of_what_is_told_becomes_a_header(tmp_path: Path) -> None:
    """Line ends in what the subject is made of: one subject, no other header, and the text stays the text."""
    evil = "x\r\nBcc: everybody@example.org\r\n\r\nhello\u2028\x1b[31m"
    with running_mail_server(tmp_path / "mail") as server:
        made = settings(server, Protection.NONE, subject="{{ message }}", body="{{ message }}\n.\n{{ fields.a }}")
        attempt = await sender().send(outgoing(made, message=evil, fields={"a": ".\r\nMAIL FROM:<x@y>"}))
    assert attempt.taken, attempt.detail
    (letter,) = server.letters
    message = read(letter)
    assert message["Bcc"] is None
    assert message["Subject"] == "x Bcc: everybody@example.org hello [31m"
    assert letter.recipients == ("a@example.org", "b@example.org")
    assert "MAIL FROM:<x@y>" in message.get_content()

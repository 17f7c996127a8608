"""Receivers as operators describe them."""

import pytest

from tenantry.master.domain.receivers import ReceiverDraft, SyslogSettings, WebhookSettings, check_draft


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("localhost", "localhost"),
        ("LocalHost.", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("SIEM.example", "siem.example"),
    ],
)
def test_a_host_stays_the_name_that_its_certificate_has(said: str, kept: str) -> None:
    """Also where a name always stands for one address: nobody has a certificate of that."""
    syslog = check_draft(ReceiverDraft("siem", SyslogSettings(said)))
    webhook = check_draft(ReceiverDraft("chat", WebhookSettings(f"https://{said}:444/x")))
    assert (syslog.settings.destination.host, webhook.settings.destination.host) == (kept, kept)

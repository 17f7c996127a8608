"""Receivers and deliveries as stores keep them."""

from typing import Any

from tenantry.master.domain.deliveries import NewDelivery
from tenantry.master.domain.receivers import (
    EmailSettings,
    Protection,
    Receiver,
    ReceiverDraft,
    Settings,
    SyslogSettings,
    SyslogTransport,
    WebhookSettings,
)
from tests.suites.conftest import NOW

EVERY_KIND: tuple[Settings, ...] = (
    EmailSettings(
        "mail.example", 25, Protection.TLS, "ü", "a@b.c", ("d@e.f", "g@h.i"), "{{ level }}", "{{ message }}", "PEM"
    ),
    WebhookSettings("https://a.example/x", "PUT", (("X-A", "{{ level }}"),), "u", "{{ message }}", "text/plain", "PEM"),
    SyslogSettings("::1", 514, SyslogTransport.UDP, 3, "{{ message }}", "PEM"),
)


def receiver_draft(name: str, settings: Settings = EVERY_KIND[1], **values: Any) -> ReceiverDraft:
    """A receiver that may be kept."""
    return ReceiverDraft(name, settings, "first\nsecond", **values)


def new_delivery(uid: str, receiver: Receiver, tenant_id: int, **values: Any) -> NewDelivery:
    """Something to tell this receiver."""
    facts: dict[str, Any] = {
        "uid": uid,
        "owner": receiver.owner,
        "receiver_id": receiver.id,
        "receiver_uid": receiver.uid,
        "receiver_name": receiver.name,
        "tenant_id": tenant_id,
        "alert": "alert",
        "rule": "rule ü",
        "tenant_guid": "guid",
        "tenant_name": "tenant",
        "instance_name": "instance",
        "level": "major",
        "message": "message",
        "content": '{"a":1}',
        "created_ms": NOW,
    }
    return NewDelivery(**{**facts, **values})

"""Receivers and deliveries on the wire: domain -> receiver_service.proto and delivery_service.proto, and requests back."""

from tenantry.master.domain.access import OWNER_WORDS
from tenantry.master.domain.alerts import AlertSource
from tenantry.master.domain.deliveries import Delivery, DeliveryFilter, DeliveryState
from tenantry.master.domain.receivers import (
    JSON_TYPE,
    LOCAL_0,
    EmailSettings,
    Protection,
    Receiver,
    ReceiverDraft,
    ReceiverFilter,
    ReceiverStatus,
    Settings,
    Subscription,
    SyslogSettings,
    SyslogTransport,
    WebhookSettings,
)
from tenantry.master.domain.tenants import TenantStanding
from tenantry.master.rpc.access_messages import decode_privacy, encode_privacy
from tenantry.master.rpc.alert_messages import SEVERITIES, SOURCES
from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.messages import Severity
from tenantry.transport.wire_values import WireEnum, to_timestamp
from tenantry.v1 import delivery_service_pb2 as delivery_pb
from tenantry.v1 import receiver_service_pb2 as pb

MAX_FILTER_TEXT = 200

PROTECTIONS = WireEnum(Protection, pb.ConnectionProtection.Value, "CONNECTION_PROTECTION")
TRANSPORTS = WireEnum(SyslogTransport, pb.SyslogTransport.Value, "SYSLOG_TRANSPORT")
STATES = WireEnum(DeliveryState, delivery_pb.DeliveryState.Value, "DELIVERY_STATE")


def encode_receiver(receiver: Receiver, status: ReceiverStatus, tenant: TenantStanding | None) -> pb.Receiver:
    """The receiver without its secrets; ``tenant`` is its owner where that is one."""
    draft = receiver.draft
    message = pb.Receiver(
        id=receiver.uid,
        name=draft.name,
        description=draft.description,
        active=draft.active,
        owner=OWNER_WORDS[receiver.owner] if tenant is None else tenant.guid,
        tenant_name="" if tenant is None else tenant.tenant_name,
        instance_name="" if tenant is None else tenant.instance_name,
        privacy=encode_privacy(draft.privacy),
        secret_names=sorted(receiver.secrets),
        etag=receiver.etag,
        create_time=to_timestamp(receiver.created_ms),
        update_time=to_timestamp(receiver.updated_ms),
        status=pb.ReceiverStatus(
            waiting=status.waiting, dead=status.dead, outcome=status.outcome, failing=status.failing
        ),
    )
    if status.outcome_ms is not None:
        message.status.outcome_time.CopyFrom(to_timestamp(status.outcome_ms))
    if draft.subscription:
        message.subscription.CopyFrom(
            pb.Subscription(
                sources=sorted(SOURCES.number(one) for one in draft.subscription.sources),
                lowest_severity=SEVERITIES.number(draft.subscription.lowest),
            )
        )
    _encode_settings(message, draft.settings)
    return message


def decode_draft(receiver: pb.Receiver, keeper: int, *, whole: bool = True) -> ReceiverDraft:
    """What a request of this user (the store's number) says of a receiver. Raises FieldInvalid.

    Not ``whole``: the settings may be missing, since they are not what is meant; then they are nobody's.
    """
    settings = decode_settings(receiver) if whole or receiver.WhichOneof("settings") else WebhookSettings("")
    privacy = decode_privacy(receiver.privacy, keeper)
    return ReceiverDraft(
        receiver.name,
        settings,
        receiver.description,
        receiver.active,
        privacy,
        _decode_subscription(receiver.subscription),
    )


def _decode_subscription(subscription: pb.Subscription) -> Subscription:
    lowest = subscription.lowest_severity
    return Subscription(
        frozenset(SOURCES.member(one, AlertSource) for one in subscription.sources),
        SEVERITIES.member(lowest, Severity) if lowest else Severity.INFO,
    )


def decode_settings(receiver: pb.Receiver) -> Settings:
    """How a receiver is reached, unchecked where the domain checks it. Raises FieldInvalid."""
    match receiver.WhichOneof("settings"):
        case "email":
            email = receiver.email
            return EmailSettings(
                host=email.host,
                port=email.port,
                protection=PROTECTIONS.member(email.protection, Protection)
                if email.protection
                else Protection.STARTTLS,
                user=email.user,
                sender=email.sender,
                recipients=tuple(email.recipients),
                subject=email.subject,
                body=email.body,
                authorities=email.authorities,
            )
        case "webhook":
            webhook = receiver.webhook
            return WebhookSettings(
                url=webhook.url,
                method=webhook.method or "POST",
                headers=tuple((header.name, header.value) for header in webhook.headers),
                user=webhook.user,
                payload=webhook.payload,
                content_type=webhook.content_type or JSON_TYPE,
                authorities=webhook.authorities,
            )
        case "syslog":
            syslog = receiver.syslog
            return SyslogSettings(
                host=syslog.host,
                port=syslog.port,
                transport=TRANSPORTS.member(syslog.transport, SyslogTransport)
                if syslog.transport
                else SyslogTransport.TLS,
                facility=syslog.facility if syslog.HasField("facility") else LOCAL_0,
                text=syslog.text,
                authorities=syslog.authorities,
            )
        case _:
            raise FieldInvalid(field="settings", problem="are missing", expected="one of email, webhook and syslog")


def decode_receiver_filter(wanted: pb.ReceiverFilter) -> ReceiverFilter:
    """A filter of a request, without the owner. Raises FieldInvalid."""
    if len(wanted.text) > MAX_FILTER_TEXT:
        raise FieldInvalid(
            field="filter.text",
            problem=f"has {len(wanted.text)} characters",
            expected=f"at most {MAX_FILTER_TEXT} characters",
        )
    return ReceiverFilter(wanted.name, wanted.text, wanted.active if wanted.HasField("active") else None)


def encode_delivery(delivery: Delivery, owner: str, lifetime_ms: int) -> delivery_pb.Delivery:
    """A delivery; ``owner`` is how its owner is written."""
    message = delivery_pb.Delivery(
        id=delivery.uid,
        owner=owner,
        receiver=delivery.receiver_uid,
        receiver_name=delivery.receiver_name,
        alert=delivery.alert,
        rule=delivery.rule,
        tenant=delivery.tenant_guid,
        tenant_name=delivery.tenant_name,
        instance_name=delivery.instance_name,
        message=delivery.message,
        level=delivery.level,
        state=STATES.number(delivery.state),
        create_time=to_timestamp(delivery.created_ms),
        attempts=delivery.attempts,
        outcome=delivery.outcome,
    )
    if delivery.attempted_ms is not None:
        message.attempt_time.CopyFrom(to_timestamp(delivery.attempted_ms))
    if delivery.state is DeliveryState.WAITING:
        message.next_time.CopyFrom(to_timestamp(delivery.next_ms))
        message.until_time.CopyFrom(to_timestamp(delivery.since_ms + lifetime_ms))
    elif delivery.ended_ms is not None:
        message.end_time.CopyFrom(to_timestamp(delivery.ended_ms))
    return message


def decode_delivery_filter(wanted: delivery_pb.DeliveryFilter) -> DeliveryFilter:
    """A filter of a request, without the owner. Raises FieldInvalid."""
    state = STATES.member(wanted.state, DeliveryState) if wanted.state else None
    return DeliveryFilter(state, wanted.receiver, wanted.alert)


def _encode_settings(message: pb.Receiver, settings: Settings) -> None:
    if isinstance(settings, EmailSettings):
        message.email.CopyFrom(
            pb.EmailReceiver(
                host=settings.host,
                port=settings.destination.port,
                protection=PROTECTIONS.number(settings.protection),
                user=settings.user,
                sender=settings.sender,
                recipients=settings.recipients,
                subject=settings.subject,
                body=settings.body,
                authorities=settings.authorities,
            )
        )
    elif isinstance(settings, WebhookSettings):
        message.webhook.CopyFrom(
            pb.WebhookReceiver(
                url=settings.url,
                method=settings.method,
                headers=[pb.WebhookHeader(name=name, value=value) for name, value in settings.headers],
                user=settings.user,
                payload=settings.payload,
                content_type=settings.content_type,
                authorities=settings.authorities,
            )
        )
    else:
        message.syslog.CopyFrom(
            pb.SyslogReceiver(
                host=settings.host,
                port=settings.destination.port,
                transport=TRANSPORTS.number(settings.transport),
                facility=settings.facility,
                text=settings.text,
                authorities=settings.authorities,
            )
        )

"""Receivers: whom the Master tells of alerts, how they are reached, and what they are sent. Durations are milliseconds."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from tenantry.master.domain.access import MAIN_OWNER, SHARED_OWNER
from tenantry.master.domain.alerts import Alert, AlertSource
from tenantry.master.domain.privacy import OPEN, Privacy
from tenantry.master.domain.rules import score_of
from tenantry.protocol.addresses import read_host
from tenantry.protocol.failures import FieldInvalid, ReceiverChanged
from tenantry.protocol.messages import Severity
from tenantry.protocol.names import MAX_DESCRIPTION, check_name, check_text

MAX_RECEIVERS: Final = 5_000
"""So many receivers all Tenants have together, without those of the main and of the shared tenant."""
MAX_OWN_RECEIVERS: Final = 50
"""So many one Tenant has of its own."""
MAX_MAIN_RECEIVERS: Final = 500
"""So many the main tenant has, and the shared one."""
MAX_RECIPIENTS: Final = 50
MAX_HEADERS: Final = 20
MAX_TEMPLATE: Final = 16_384
MAX_SHORT_TEMPLATE: Final = 1_000
"""Of a subject, and of a header's value."""
MAX_SECRET: Final = 4_096
MAX_SECRETS: Final = 25
MAX_AUTHORITIES: Final = 65_536
MAX_URL: Final = 2_000
LOCAL_0: Final = 16
JSON_TYPE: Final = "application/json"

DEFAULT_SUBJECT: Final = "[{{ 'over' if over else level }}] {{ tenant.name }} / {{ tenant.instance }}: {{ rule.name }}"
DEFAULT_BODY: Final = """{{ message }}

Tenant    {{ tenant.name }} / {{ tenant.instance }} ({{ tenant.guid }})
Rule      {{ rule.name }}
Level     {{ level }}
Severity  {{ severity }} (score {{ score }})
Time      {{ time }}
Alert     {{ alert.id }}
"""
DEFAULT_TEXT: Final = "{{ tenant.name }} / {{ tenant.instance }}: {{ rule.name }}: {{ message }}"
DEFAULT_PAYLOAD: Final = "{{ everything|tojson }}"

HEADER_SECRET: Final = "header:"  # noqa: S105 - how names of secrets begin
PATH_SECRET: Final = "path"  # noqa: S105 - the name of one
PASSWORD: Final = "password"  # noqa: S105 - the name of one
TOKEN: Final = "token"  # noqa: S105 - the name of one
SIGNING_KEY: Final = "signing_key"

_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_MAIL_ADDRESS: Final = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?"
)
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+-]{1,60}/[a-z0-9!#$&^_.+-]{1,60}(; ?[a-z]+=[A-Za-z0-9_-]+)?")
_NO_TARGET: Final = frozenset(' #\\<>"')
_LOCALHOST: Final = "localhost"
_METHODS: Final = ("POST", "PUT", "PATCH")
_OWN_HEADERS: Final = frozenset(
    {
        "host",
        "content-length",
        "content-type",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "expect",
        "proxy-authorization",
        "user-agent",
        "idempotency-key",
        "tenantry-signature",
    }
)


class ReceiverKind(StrEnum):
    """What a receiver is."""

    EMAIL = "email"
    WEBHOOK = "webhook"
    SYSLOG = "syslog"


class Protection(StrEnum):
    """How a connection to a mail server is protected."""

    NONE = "none"
    STARTTLS = "starttls"
    TLS = "tls"


class SyslogTransport(StrEnum):
    """By which protocol syslog is sent."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


@dataclass(frozen=True, slots=True)
class Destination:
    """Where connections go. ``host`` in its canonical spelling: a name, or an address without brackets."""

    host: str
    port: int
    protection: Protection

    def describe(self) -> str:
        """What secrets are bound to: with another protection, host or port they do not open."""
        return f"{self.protection} {self.host} {self.port}"


@dataclass(frozen=True, slots=True)
class EmailSettings:
    """E-mail by SMTP. Empty templates are the usual ones; ``authorities`` (PEM): empty for those of the machine."""

    host: str
    port: int = 0
    protection: Protection = Protection.STARTTLS
    user: str = ""
    sender: str = ""
    recipients: tuple[str, ...] = ()
    subject: str = ""
    body: str = ""
    authorities: str = ""

    @property
    def kind(self) -> ReceiverKind:
        return ReceiverKind.EMAIL

    @property
    def destination(self) -> Destination:
        usual = 465 if self.protection is Protection.TLS else 587
        return Destination(self.host, self.port or usual, self.protection)

    def templates(self) -> dict[str, str]:
        """What is rendered, by the names of `RenderedText`."""
        return {"subject": self.subject or DEFAULT_SUBJECT, "body": self.body or DEFAULT_BODY}


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """An HTTP request with templates for its body and for values of headers."""

    url: str
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = ()
    user: str = ""
    payload: str = ""
    content_type: str = JSON_TYPE
    authorities: str = ""

    @property
    def kind(self) -> ReceiverKind:
        return ReceiverKind.WEBHOOK

    @property
    def destination(self) -> Destination:
        parts = urlsplit(self.url)
        secure = parts.scheme == "https"
        return Destination(
            parts.hostname or "", parts.port or (443 if secure else 80), Protection.TLS if secure else Protection.NONE
        )

    def templates(self) -> dict[str, str]:
        """What is rendered, by the names of `RenderedText`."""
        headers = {f"header {name}": value for name, value in self.headers}
        return {**headers, "payload": self.payload or DEFAULT_PAYLOAD}


@dataclass(frozen=True, slots=True)
class SyslogSettings:
    """A message of RFC 5424."""

    host: str
    port: int = 0
    transport: SyslogTransport = SyslogTransport.TLS
    facility: int = LOCAL_0
    text: str = ""
    authorities: str = ""

    @property
    def kind(self) -> ReceiverKind:
        return ReceiverKind.SYSLOG

    @property
    def destination(self) -> Destination:
        usual = {SyslogTransport.UDP: 514, SyslogTransport.TCP: 601, SyslogTransport.TLS: 6514}[self.transport]
        secure = self.transport is SyslogTransport.TLS
        return Destination(self.host, self.port or usual, Protection.TLS if secure else Protection.NONE)

    def templates(self) -> dict[str, str]:
        """What is rendered, by the names of `RenderedText`."""
        return {"text": self.text or DEFAULT_TEXT}


Settings = EmailSettings | WebhookSettings | SyslogSettings


SUBSCRIBED: Final = frozenset({AlertSource.TENANT, AlertSource.SYSTEM})
"""What a receiver may subscribe to: alerts of rules of the Master are told by those rules."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """Alerts of which a receiver is told without being named by a rule: who found them, and how bad they have to be."""

    sources: frozenset[AlertSource] = frozenset()
    lowest: Severity = Severity.INFO

    def __bool__(self) -> bool:
        return bool(self.sources)

    def wants(self, alert: Alert) -> bool:
        """Whether the receiver is to be told of this alert."""
        return alert.source in self.sources and score_of(alert.severity) >= score_of(self.lowest)


NO_SUBSCRIPTION: Final = Subscription()


@dataclass(frozen=True, slots=True)
class ReceiverDraft:
    """What an operator may say about a receiver, without its secrets; not checked yet."""

    name: str
    settings: Settings
    description: str = ""
    active: bool = True
    privacy: Privacy = OPEN
    subscription: Subscription = NO_SUBSCRIPTION


@dataclass(frozen=True, slots=True)
class Receiver:
    """One receiver as the Master keeps it. ``id`` is the store's own number; everybody else uses ``uid``.

    ``owner`` is the store's number of a Tenant, or that of the main or of the shared one. ``secrets`` are sealed.
    """

    id: int
    uid: str
    owner: int
    draft: ReceiverDraft
    secrets: Mapping[str, str]
    version: int
    created_ms: int
    updated_ms: int

    @property
    def name(self) -> str:
        """Unique among the receivers of its owner."""
        return self.draft.name

    @property
    def etag(self) -> str:
        """Changes with each change by an operator."""
        return f"{self.version:x}"


@dataclass(frozen=True, slots=True)
class ReceiverStatus:
    """What waits for a receiver, and how the newest attempt went: ``outcome`` is empty before the first."""

    waiting: int = 0
    dead: int = 0
    outcome: str = ""
    outcome_ms: int | None = None
    failing: bool = False


@dataclass(frozen=True, slots=True)
class ReceiverFilter:
    """Which receivers; what is set must all hold. ``text`` is part of the name, without regard to case; ``owner`` a number."""

    name: str = ""
    text: str = ""
    active: bool | None = None
    owner: int | None = None


def most_receivers(owner: int) -> int:
    """So many receivers this owner may have."""
    return MAX_OWN_RECEIVERS if owner > MAIN_OWNER else MAX_MAIN_RECEIVERS


def check_etag(receiver: Receiver, etag: str) -> None:
    """Raise ReceiverChanged unless ``etag`` is empty or the current one."""
    if etag and etag != receiver.etag:
        raise ReceiverChanged(receiver=receiver.name, etag=receiver.etag)


def check_subscription(owner: int, subscription: Subscription) -> None:
    """Raise FieldInvalid where a receiver of this owner cannot be told of these alerts."""
    if not subscription.sources <= SUBSCRIBED:
        raise FieldInvalid(
            field="subscription.sources",
            problem="name the rules of the Master",
            expected="tenant or system: a rule of the Master says itself whom it tells",
        )
    if subscription and owner == SHARED_OWNER:
        raise FieldInvalid(
            field="subscription",
            problem="is of a receiver of the shared tenant",
            expected="a receiver of main, which is told about every Tenant, or of the Tenant itself",
        )


def check_draft(draft: ReceiverDraft) -> ReceiverDraft:
    """The draft in its stored form; its templates are checked elsewhere. Raises FieldInvalid."""
    settings = draft.settings
    if isinstance(settings, EmailSettings):
        settings = _check_email(settings)
    elif isinstance(settings, WebhookSettings):
        settings = _check_webhook(settings)
    else:
        settings = _check_syslog(settings)
    check_text(settings.authorities, "authorities", MAX_AUTHORITIES, lines=True)
    for name, template in settings.templates().items():
        most = MAX_SHORT_TEMPLATE if name == "subject" or name.startswith("header ") else MAX_TEMPLATE
        if len(template) > most:
            raise FieldInvalid(field=name, problem=f"has {len(template)} characters", expected=f"at most {most}")
    return replace(
        draft,
        name=check_name(draft.name, "name"),
        description=check_text(draft.description, "description", MAX_DESCRIPTION, lines=True),
        settings=settings,
    )


def check_secrets(settings: Settings, secrets: Mapping[str, str]) -> None:
    """Raise FieldInvalid unless these secrets (empty ones are taken away) are those of such a receiver, and are sent protected."""
    if len(secrets) > MAX_SECRETS:
        raise FieldInvalid(field="secrets", problem=f"are {len(secrets)}", expected=f"at most {MAX_SECRETS}")
    for name, secret in secrets.items():
        if not _has_secret(settings, name):
            raise FieldInvalid(
                field="secrets",
                problem=f"have a {name[:60]!r}",
                expected=f"among {', '.join(_known_secrets(settings))}",
            )
        if len(secret) > MAX_SECRET or not secret.isprintable() or not secret.isascii():
            raise FieldInvalid(
                field=f"secrets.{name}",
                problem="is too long, or not ASCII",
                expected="at most 4,096 characters of ASCII",
            )
        if secret and name == PATH_SECRET and (not secret.startswith("/") or set(secret) & _NO_TARGET):
            raise FieldInvalid(
                field="secrets.path", problem="is no path with a query", expected="like /services/T0/B0/key"
            )


def check_complete(settings: Settings, names: Iterable[str]) -> None:
    """Raise FieldInvalid where the secrets with these names do not go together, or would be sent in the clear."""
    found = frozenset(names)
    exposed = found - {SIGNING_KEY}
    if exposed and settings.destination.protection is Protection.NONE:
        raise FieldInvalid(
            field="secrets",
            problem=f"({', '.join(sorted(exposed))}) would be sent in the clear",
            expected="a protected connection (https, STARTTLS or TLS)",
        )
    user = "" if isinstance(settings, SyslogSettings) else settings.user
    if bool(user) != (PASSWORD in found):
        raise FieldInvalid(field="user", problem="and password are not both there", expected="both, or neither")
    if PASSWORD in found and TOKEN in found:
        raise FieldInvalid(field="secrets", problem="are a password and a token", expected="one way to sign in")
    if isinstance(settings, WebhookSettings):
        spelled = [name.lower() for name, _ in settings.headers]
        spelled += [name.removeprefix(HEADER_SECRET).lower() for name in found if name.startswith(HEADER_SECRET)]
        if found & {PASSWORD, TOKEN}:
            spelled.append("authorization")
        if len(spelled) != len(set(spelled)):
            raise FieldInvalid(field="headers", problem="hold one twice", expected="each header once")


def _known_secrets(settings: Settings) -> tuple[str, ...]:
    match settings.kind:
        case ReceiverKind.EMAIL:
            return (PASSWORD,)
        case ReceiverKind.WEBHOOK:
            return (PASSWORD, TOKEN, SIGNING_KEY, PATH_SECRET, f"{HEADER_SECRET}NAME")
        case _:
            return ("none",)


def _has_secret(settings: Settings, name: str) -> bool:
    if isinstance(settings, WebhookSettings) and name.startswith(HEADER_SECRET):
        return _may_be_set(name.removeprefix(HEADER_SECRET))
    return name in _known_secrets(settings)


def _may_be_set(header: str) -> bool:
    return _HEADER.fullmatch(header) is not None and header.lower() not in _OWN_HEADERS


def _check_host(host: str) -> str:
    found = read_host(host)
    if found is None:
        raise FieldInvalid(
            field="host", problem=f"is {host[:80]!r}", expected="a host name, or an address in its usual spelling"
        )
    # A certificate is of the name, not of the address for which this name always stands.
    return _LOCALHOST if host.lower().removesuffix(".") == _LOCALHOST else str(found)


def _check_port(port: int) -> int:
    if not 0 <= port <= 65_535:
        raise FieldInvalid(field="port", problem=f"is {port}", expected="1 to 65535, or 0 for the usual one")
    return port


def _check_mail_address(text: str, field: str) -> str:
    if len(text) > 254 or not _MAIL_ADDRESS.fullmatch(text):
        raise FieldInvalid(field=field, problem=f"holds {text[:80]!r}", expected="a mail address, like a@example.org")
    return text


def _check_email(settings: EmailSettings) -> EmailSettings:
    if not 1 <= len(settings.recipients) <= MAX_RECIPIENTS:
        raise FieldInvalid(
            field="recipients", problem=f"are {len(settings.recipients)}", expected=f"1 to {MAX_RECIPIENTS}"
        )
    return replace(
        settings,
        host=_check_host(settings.host),
        port=_check_port(settings.port),
        user=check_text(settings.user, "user", 256),
        sender=_check_mail_address(settings.sender, "sender"),
        recipients=tuple(dict.fromkeys(_check_mail_address(one, "recipients") for one in settings.recipients)),
    )


def _check_webhook(settings: WebhookSettings) -> WebhookSettings:
    if settings.method not in _METHODS:
        raise FieldInvalid(field="method", problem=f"is {settings.method[:20]!r}", expected=", ".join(_METHODS))
    if not _MEDIA_TYPE.fullmatch(settings.content_type):
        raise FieldInvalid(
            field="content_type", problem=f"is {settings.content_type[:60]!r}", expected="like application/json"
        )
    if len(settings.headers) > MAX_HEADERS:
        raise FieldInvalid(field="headers", problem=f"are {len(settings.headers)}", expected=f"at most {MAX_HEADERS}")
    for name, _ in settings.headers:
        if not _may_be_set(name):
            raise FieldInvalid(
                field="headers",
                problem=f"hold {name[:60]!r}",
                expected="names of HTTP that the Master does not set itself",
            )
    check_text(settings.user, "user", 256)
    if ":" in settings.user:
        raise FieldInvalid(field="user", problem="holds a colon", expected="none: Basic authentication ends it there")
    return replace(settings, url=_check_url(settings.url))


def _check_url(url: str) -> str:
    expected = "http://HOST[:PORT]/PATH or https://…, without user and fragment, in ASCII"
    wrong = FieldInvalid(field="url", problem="is no URL that can be sent to", expected=expected)
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise wrong
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or "#" in url or port == 0:
        raise wrong
    host = _check_host(parts.hostname)
    place = f"[{host}]" if ":" in host else host
    return parts._replace(netloc=place if port is None else f"{place}:{port}", path=parts.path or "/").geturl()


def _check_syslog(settings: SyslogSettings) -> SyslogSettings:
    if not 0 <= settings.facility <= 23:
        raise FieldInvalid(field="facility", problem=f"is {settings.facility}", expected="0 to 23")
    return replace(settings, host=_check_host(settings.host), port=_check_port(settings.port))

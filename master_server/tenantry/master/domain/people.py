"""Users, groups and tokens as they are kept: never a secret, only what it is checked by. Times are Unix milliseconds."""

from dataclasses import dataclass, field
from enum import StrEnum

from tenantry.master.domain.access import Permission


@dataclass(frozen=True, slots=True)
class User:
    """A person or a machine that signs in.

    ``password`` is an argon2id hash in PHC form; ``totp`` the sealed second-factor secret, in force from ``totp_confirmed_ms`` on;
    ``recovery_codes`` are SHA-256 hashes of what is left; ``issuer`` and ``subject`` name a user of an OpenID provider.
    ``version`` grows with each change. ``id`` 0: not stored yet.
    """

    id: int
    name: str
    display_name: str
    email: str
    created_ms: int
    version: int = 1
    machine: bool = False
    password: str | None = field(default=None, repr=False)
    totp: str | None = field(default=None, repr=False)
    totp_confirmed_ms: int | None = None
    totp_used_step: int | None = None
    recovery_codes: tuple[str, ...] = field(default=(), repr=False)
    issuer: str | None = None
    subject: str | None = None
    disabled_ms: int | None = None
    last_sign_in_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Users that hold roles together; ``external`` is the name of the OpenID provider's group that it stands for, or empty."""

    id: int
    name: str
    description: str
    external: str
    created_ms: int


class TokenKind(StrEnum):
    """What a token is for."""

    API = "api"
    """Made by somebody for a program; lives until its end or its revocation."""
    SESSION = "session"
    """Made by a sign-in; short-lived, ended by signing out."""


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token of a user. ``permissions`` and ``owners`` narrow the user's rights; None leaves them as they are."""

    id: str
    hash: str
    name: str
    created_ms: int
    revoked_ms: int | None = None
    user_id: int = 0
    kind: TokenKind = TokenKind.API
    permissions: frozenset[Permission] | None = None
    owners: frozenset[int] | None = None
    expires_ms: int | None = None
    last_used_ms: int | None = None


@dataclass(frozen=True, slots=True)
class MachineCertificate:
    """A client certificate that was issued to a machine's user. ``public_key`` is the SHA-256 of its key, hexadecimal."""

    serial: str
    user_id: int
    authority: str
    public_key: str
    not_before_ms: int
    not_after_ms: int
    issued_ms: int
    issued_by: str
    revoked_ms: int | None = None

"""Users, groups and tokens as they are kept: never a secret, only what it is checked by. Times are Unix milliseconds."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from tenantry.master.domain.access import Permission
from tenantry.protocol.failures import FieldInvalid, UserChanged

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")
_NO_NAME: Final = re.compile(r"[^a-z0-9._@+-]")
_MACHINE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

MIN_TOKEN_LIFETIME_MS: Final = 60_000
DEFAULT_TOKEN_LIFETIME_MS: Final = 90 * 86_400_000
MAX_TOKEN_LIFETIME_MS: Final = 366 * 86_400_000
MIN_MACHINE_LIFETIME_MS: Final = 86_400_000
DEFAULT_MACHINE_LIFETIME_MS: Final = 30 * 86_400_000
MAX_MACHINE_LIFETIME_MS: Final = 90 * 86_400_000


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

    @property
    def etag(self) -> str:
        """What a change is based on."""
        return f"{self.version:x}"

    @property
    def second_factor(self) -> bool:
        """Whether signing in needs a code."""
        return self.totp_confirmed_ms is not None


def fold_user_name(name: str) -> str:
    """A user's name as it is kept: people write capitals as they like."""
    return name.strip().casefold()


def user_name_from(text: str) -> str:
    """What somebody is called elsewhere as a name of a user: what no name here holds becomes a hyphen.

    The audit names a user and a token as ``user/token``: nobody comes to be called like another one's token.
    """
    return _NO_NAME.sub("-", fold_user_name(text)).lstrip("._@+-")[:64] or "user"


def check_user_name(name: str, *, machine: bool = False) -> str:
    """The name of a new user as it is kept. Raises FieldInvalid."""
    folded = fold_user_name(name)
    # A machine's name becomes the last part of a SPIFFE id, which holds fewer characters.
    if not (_MACHINE_NAME if machine else _NAME).fullmatch(folded):
        allowed = ". _ -" if machine else ". _ @ + -"
        expected = f"1 to 64 ASCII letters, digits and {allowed}, beginning with a letter or digit"
        raise FieldInvalid(field="name", problem="cannot be the name of a user", expected=expected)
    return folded


def check_user_etag(user: User, etag: str) -> None:
    """Refuse a change that is based on another version; an empty etag fits every one. Raises UserChanged."""
    if etag and etag != user.etag:
        raise UserChanged(user=user.name, etag=user.etag)


def check_lifetime(lifetime_ms: int, least_ms: int, most_ms: int, field_name: str = "lifetime") -> int:
    """The lifetime of what is made. Raises FieldInvalid."""
    if not least_ms <= lifetime_ms <= most_ms:
        expected = f"{least_ms / 3_600_000:g} h to {most_ms / 86_400_000:g} d"
        raise FieldInvalid(field=field_name, problem=f"is {lifetime_ms / 1000:g} s", expected=expected)
    return lifetime_ms


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

"""What an OpenID provider says about somebody who signed in there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tenantry.protocol.failures import OpenIdSignInFailed
from tenantry.protocol.names import MAX_NAME, tidy_text

MAX_GROUPS: Final = 500
MAX_SUBJECT: Final = 255


@dataclass(frozen=True, slots=True)
class ExternalIdentity:
    """A user of an OpenID provider: issuer and subject never change, the rest may at each sign-in."""

    issuer: str
    subject: str
    name: str
    display_name: str
    email: str
    groups: frozenset[str]


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """What a user types elsewhere (``user_code`` at ``verification_uri``) while the program polls with ``code``."""

    code: str
    user_code: str
    verification_uri: str
    complete_uri: str
    expires_in_s: int
    interval_s: int


def identity_of(claims: Mapping[str, Any], issuer: str, groups_claim: str) -> ExternalIdentity:
    """The identity in the verified claims of an ID token (OpenID Connect Core 1.0, sections 2 and 5.1).

    Raises OpenIdSignInFailed when a claim has the wrong form.
    """
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT or not subject.isascii():
        raise OpenIdSignInFailed(cause="the provider names no subject")
    listed = claims.get(groups_claim, [])
    if isinstance(listed, str):
        listed = [listed]
    if not isinstance(listed, list) or len(listed) > MAX_GROUPS or not all(isinstance(name, str) for name in listed):
        raise OpenIdSignInFailed(cause=f"the claim {groups_claim!r} is no list of at most {MAX_GROUPS} names")
    email = _text(claims, "email") if claims.get("email_verified", True) is True else ""
    name = _text(claims, "preferred_username") or email or subject
    return ExternalIdentity(
        issuer, subject, name, _text(claims, "name") or name, email, frozenset(filter(None, listed))
    )


def _text(claims: Mapping[str, Any], claim: str) -> str:
    value = claims.get(claim)
    return tidy_text(value, MAX_NAME) if isinstance(value, str) else ""

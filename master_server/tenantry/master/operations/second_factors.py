"""Codes of authenticators (TOTP, RFC 6238) and recovery codes: each opens once."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyotp

from tenantry.master.domain.people import User
from tenantry.master.operations.sealing import Seal, second_factor_of

STEP_S: Final = 30
DRIFT_STEPS: Final = 1
"""A code is taken so many steps of 30 s before and after its time."""
RECOVERY_CODES: Final = 10
_ISSUER: Final = "Tenantry"
_ALPHABET: Final = "23456789abcdefghjkmnpqrstuvwxyz"
_CODE: Final = re.compile(r"[0-9]{6}")


@dataclass(frozen=True, slots=True)
class CodeUse:
    """What is to be kept once a code was right: the step of an authenticator's, or the recovery codes that are left."""

    used_step: int | None
    recovery_codes: tuple[str, ...]
    by_recovery: bool


def make_secret() -> str:
    """A new secret of an authenticator, in base32: 160 random bits."""
    return pyotp.random_base32()


def otpauth_uri(secret: str, user: str, master: str) -> str:
    """The secret as authenticators read it from a QR code. ``master`` tells apart the entries of several Masters."""
    return pyotp.TOTP(secret).provisioning_uri(name=user, issuer_name=f"{_ISSUER} {master}".strip())


def make_recovery_codes() -> tuple[str, ...]:
    """New recovery codes, as they are shown: 118 random bits each, so that a plain hash of them is enough."""
    words = ("".join(secrets.choice(_ALPHABET) for _ in range(24)) for _ in range(RECOVERY_CODES))
    return tuple("-".join(word[place : place + 4] for place in range(0, 24, 4)) for word in words)


def hash_recovery_codes(codes: Sequence[str]) -> tuple[str, ...]:
    """What is kept of recovery codes."""
    return tuple(_hash(code) for code in codes)


def use_code(user: User, seal: Seal, code: str, now_ms: int) -> CodeUse | None:
    """What a code uses up; None when it is wrong or was used before. An enrolment that is not confirmed yet counts too.

    Raises SealBroken when the secret cannot be read.
    """
    typed = "".join(code.split())
    if _CODE.fullmatch(typed):
        return _use_step(user, seal, typed, now_ms)
    wanted = _hash(code)
    left = tuple(kept for kept in user.recovery_codes if not hmac.compare_digest(kept, wanted))
    return CodeUse(user.totp_used_step, left, by_recovery=True) if len(left) < len(user.recovery_codes) else None


def _use_step(user: User, seal: Seal, typed: str, now_ms: int) -> CodeUse | None:
    if user.totp is None:
        return None
    totp = pyotp.TOTP(seal.open(second_factor_of(user.id), user.totp))
    present = now_ms // 1000 // STEP_S
    found = None
    for step in range(present - DRIFT_STEPS, present + DRIFT_STEPS + 1):
        if hmac.compare_digest(totp.generate_otp(step), typed):
            found = step
    # What was used before, or is older than what was used, was read over somebody's shoulder.
    if found is None or (user.totp_used_step is not None and found <= user.totp_used_step):
        return None
    return CodeUse(found, user.recovery_codes, by_recovery=False)


def _hash(code: str) -> str:
    return hashlib.sha256("".join(code.lower().replace("-", "").split()).encode()).hexdigest()

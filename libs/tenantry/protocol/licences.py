"""Licences and requests for them, as every program understands them: what is in one, which bytes it is, and when it is in force.

A licence is the payload of a compact JWS; `tenantry.licensing` signs and verifies. Here is what needs no key: the one form that a
payload, an envelope and a request may have. Anything that is not in this form to the byte is refused, so that one altered byte
anywhere in a file makes it worthless. Times are Unix milliseconds and come as arguments.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from tenantry.protocol.failures import FieldInvalid, LicenceInvalid
from tenantry.protocol.names import check_text

LICENCE_TYPE: Final = "tenantry-licence"
REQUEST_TYPE: Final = "tenantry-licence-request"
ALGORITHM: Final = "Ed25519"
WARNING_DAYS: Final = (30, 7, 1)
DAY_MS: Final = 86_400_000
HEAD_START_MS: Final = DAY_MS
"""So much earlier than it was issued a licence begins: the clocks of issuer and instance may differ."""
MAX_HOLDER: Final = 200
MAX_TENANTS: Final = 10_000_000
MAX_MODULES: Final = 64
MAX_TEXT: Final = 16 * 1024
_NEWEST_MS: Final = 253_402_300_799_999  # the end of the year 9999
_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{7,79}")
_FINGERPRINT = re.compile(r"(master|machine)-[0-9a-f]{64}")
_MODULE = re.compile(r"[a-z][a-z0-9-]{0,39}")
_KID = re.compile(r"[A-Za-z0-9_-]{43}")
_SIGNATURE_BYTES = 64


class LicenceKind(StrEnum):
    """For what a licence is."""

    MASTER = "master"
    TENANT = "tenant"
    STAND_ALONE = "stand-alone"


@dataclass(frozen=True, slots=True)
class Licence:
    """What an issuer grants. ``tenants`` is how many a Master may have (0 for the other kinds); no ``modules`` means all of them."""

    serial: str
    kind: LicenceKind
    holder: str
    fingerprint: str
    issued_ms: int
    not_before_ms: int
    not_after_ms: int
    tenants: int = 0
    modules: tuple[str, ...] = ()
    evaluation: bool = False

    def in_force(self, now_ms: int) -> bool:
        """Whether it has begun and not ended."""
        return self.not_before_ms <= now_ms < self.not_after_ms


@dataclass(frozen=True, slots=True)
class LicenceRequest:
    """What an instance asks for. ``holder``, ``tenants`` and ``modules`` are wishes; the issuer decides."""

    kind: LicenceKind
    fingerprint: str
    made_ms: int
    holder: str = ""
    tenants: int = 0
    modules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Envelope:
    """A compact JWS in its parts. ``text`` is the whole of it, without the line's end."""

    kid: str
    payload: bytes
    text: str


# --- which one is in force, and for how long ------------------------------------------------------------------------------


def choose(licences: Iterable[Licence], now_ms: int) -> Licence | None:
    """The licence in force: of several the one that was issued last."""
    return max(
        (one for one in licences if one.in_force(now_ms)), key=lambda one: (one.issued_ms, one.serial), default=None
    )


def covered_until(licences: Iterable[Licence], now_ms: int) -> int:
    """Until when there is a licence without a break, from now on; ``now_ms`` where there is none."""
    end = now_ms
    for one in sorted(licences, key=lambda one: one.not_before_ms):
        if one.not_before_ms <= end < one.not_after_ms:
            end = one.not_after_ms
    return end


def due_warning(licence: Licence, end_ms: int, warned_days: int | None, now_ms: int) -> int | None:
    """How many days before its end must be warned of now: one of `WARNING_DAYS`, 0 for the end itself, or None.

    Of several that are due only the most urgent is given, and none that was given already. A licence that is short by itself is
    not announced from its beginning on: a warning needs a life of twice its days.
    """
    left_ms = end_ms - now_ms
    if left_ms <= 0:
        due = 0
    else:
        lifetime_ms = licence.not_after_ms - licence.not_before_ms
        reached = [days for days in WARNING_DAYS if left_ms <= days * DAY_MS and lifetime_ms >= 2 * days * DAY_MS]
        if not reached:
            return None
        due = min(reached)
    return due if warned_days is None or due < warned_days else None


# --- bytes ----------------------------------------------------------------------------------------------------------------


def encode_licence(licence: Licence) -> bytes:
    """The one payload of this licence. Raises LicenceInvalid when it breaks a rule."""
    _check_licence(licence)
    return _canonical(
        {
            "evaluation": licence.evaluation,
            "fingerprint": licence.fingerprint,
            "holder": licence.holder,
            "issued": licence.issued_ms,
            "kind": licence.kind.value,
            "limits": {"modules": list(licence.modules), "tenants": licence.tenants},
            "not_after": licence.not_after_ms,
            "not_before": licence.not_before_ms,
            "serial": licence.serial,
            "version": 1,
        }
    )


def decode_licence(payload: bytes) -> Licence:
    """The licence that a payload states. Raises LicenceInvalid."""
    content = _object(payload, "its payload")
    try:
        limits = content["limits"]
        licence = Licence(
            serial=content["serial"],
            kind=LicenceKind(content["kind"]),
            holder=content["holder"],
            fingerprint=content["fingerprint"],
            issued_ms=content["issued"],
            not_before_ms=content["not_before"],
            not_after_ms=content["not_after"],
            tenants=limits["tenants"],
            modules=tuple(limits["modules"]),
            evaluation=content["evaluation"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LicenceInvalid(problem=f"its payload is not a licence's ({type(error).__name__})") from None
    if encode_licence(licence) != payload:
        raise LicenceInvalid(problem="its payload is not in the form that this version knows")
    return licence


def protected_header(kid: str) -> dict[str, str]:
    """The header of the envelope: nothing else may stand in it."""
    return {"alg": ALGORITHM, "kid": kid, "typ": LICENCE_TYPE}


def open_envelope(text: str) -> Envelope:
    """The parts of a licence file: a compact JWS and the end of the line. Verifies nothing but the form. Raises LicenceInvalid."""
    if len(text) > MAX_TEXT:
        raise LicenceInvalid(problem=f"it is longer than {MAX_TEXT} characters")
    if not text.endswith("\n") or not text.isascii():
        raise LicenceInvalid(problem="it is not one line of base64url text with the end of the line")
    line = text[:-1]
    parts = line.split(".")
    if len(parts) != 3:
        raise LicenceInvalid(problem="it is no compact JWS: it has not three parts with dots between them")
    header, payload, signature = (_unbase64(part) for part in parts)
    if len(signature) != _SIGNATURE_BYTES:
        raise LicenceInvalid(problem=f"its signature has {len(signature)} bytes instead of {_SIGNATURE_BYTES}")
    kid = _object(header, "its header").get("kid")
    if not isinstance(kid, str) or _KID.fullmatch(kid) is None or _canonical(protected_header(kid)) != header:
        raise LicenceInvalid(problem="its header is not a licence's")
    return Envelope(kid, payload, line)


def encode_request(request: LicenceRequest) -> str:
    """The one text of this request: a line of JSON with its own digest. Raises LicenceInvalid when it breaks a rule."""
    _check_request(request)
    body = _request_body(request)
    return _canonical({**body, "sha256": hashlib.sha256(_canonical(body)).hexdigest()}).decode() + "\n"


def decode_request(text: str) -> LicenceRequest:
    """The request in a file. Raises LicenceInvalid."""
    if len(text) > MAX_TEXT or not text.endswith("\n"):
        raise LicenceInvalid(problem="the request is not one line of JSON with the end of the line")
    content = _object(text[:-1].encode("utf-8", "surrogatepass"), "the request")
    try:
        request = LicenceRequest(
            LicenceKind(content["kind"]),
            content["fingerprint"],
            content["made"],
            content["holder"],
            content["tenants"],
            tuple(content["modules"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LicenceInvalid(problem=f"the request is incomplete ({type(error).__name__})") from None
    if encode_request(request) != text:
        raise LicenceInvalid(problem="the request is not as it was written: its digest or its form is wrong")
    return request


def _request_body(request: LicenceRequest) -> dict[str, Any]:
    return {
        "fingerprint": request.fingerprint,
        "holder": request.holder,
        "kind": request.kind.value,
        "made": request.made_ms,
        "modules": list(request.modules),
        "tenants": request.tenants,
        "typ": REQUEST_TYPE,
        "version": 1,
    }


def _canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise LicenceInvalid(problem=f"{what} is not JSON") from None
    if not isinstance(content, dict):
        raise LicenceInvalid(problem=f"{what} is not a JSON object")
    return content


def _unbase64(part: str) -> bytes:
    """The bytes of base64url without padding. The last character may not hide bits that decoding throws away."""
    try:
        data = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise LicenceInvalid(problem="a part of it is not base64url") from None
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != part:
        raise LicenceInvalid(problem="a part of it is not base64url in its only form")
    return data


# --- rules ----------------------------------------------------------------------------------------------------------------


def _check_licence(licence: Licence) -> None:
    serial: object = licence.serial
    if not isinstance(serial, str) or _SERIAL.fullmatch(serial) is None:
        raise LicenceInvalid(problem="its serial is not 8 to 80 letters, digits and hyphens")
    if type(licence.evaluation) is not bool:
        raise LicenceInvalid(problem="it does not say whether it is for evaluation")
    _check_holder(licence.holder, needed=True)
    _check_bound(licence.kind, licence.fingerprint)
    _check_wishes(licence.kind, licence.tenants, licence.modules)
    if licence.kind is LicenceKind.MASTER and licence.tenants < 1:
        raise LicenceInvalid(problem="it is for a Master and allows no Tenant")
    for moment in (licence.issued_ms, licence.not_before_ms, licence.not_after_ms):
        _check_moment(moment)
    if licence.not_before_ms >= licence.not_after_ms:
        raise LicenceInvalid(problem="it ends before it begins")


def _check_request(request: LicenceRequest) -> None:
    _check_holder(request.holder, needed=False)
    _check_bound(request.kind, request.fingerprint)
    _check_wishes(request.kind, request.tenants, request.modules)
    _check_moment(request.made_ms)


def _check_holder(holder: object, *, needed: bool) -> None:
    if not isinstance(holder, str) or (needed and not holder):
        raise LicenceInvalid(problem="it names no holder")
    try:
        tidy = check_text(holder, "holder", MAX_HOLDER)
    except FieldInvalid as invalid:
        raise LicenceInvalid(problem=invalid.describe()) from None
    if tidy != holder:
        raise LicenceInvalid(problem="the name of its holder is not in its composed form (NFC)")


def _check_bound(kind: LicenceKind, fingerprint: object) -> None:
    match = _FINGERPRINT.fullmatch(fingerprint) if isinstance(fingerprint, str) else None
    if match is None or (match[1] == "master") != (kind is LicenceKind.MASTER):
        raise LicenceInvalid(
            problem=f"its fingerprint is not that of an instance for which a {kind.value} licence can be"
        )


def _check_wishes(kind: LicenceKind, tenants: object, modules: tuple[object, ...]) -> None:
    if type(tenants) is not int or not 0 <= tenants <= MAX_TENANTS:
        raise LicenceInvalid(problem=f"its number of Tenants is not within 0 to {MAX_TENANTS}")
    if tenants and kind is not LicenceKind.MASTER:
        raise LicenceInvalid(problem="only a Master's licence has a number of Tenants")
    for module in modules:
        if not isinstance(module, str) or _MODULE.fullmatch(module) is None:
            raise LicenceInvalid(problem="a module's name is not made of small letters, digits and hyphens")
    if len(modules) > MAX_MODULES or list(modules) != sorted(set(map(str, modules))):
        raise LicenceInvalid(problem=f"its modules are not at most {MAX_MODULES} different names in order")


def _check_moment(moment: object) -> None:
    if type(moment) is not int or not 0 <= moment <= _NEWEST_MS:
        raise LicenceInvalid(problem="a time in it is none")

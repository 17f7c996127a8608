"""Licences on a Master: which is in force, what it allows, what Tenants are handed, what is warned of. Work for the committer.

A licence decides about what is new: Tenants, keys, joins. Nothing here is asked by what runs already: links, delivery, supervision,
renewal of certificates.
"""

import contextlib
import datetime as dt
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tenantry.licensing.issuers import Issuer, TrustedIssuer
from tenantry.licensing.machine import master_fingerprint
from tenantry.licensing.signing import IssuerKey, sign, verify
from tenantry.master.domain.tenants import Tenant
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.sql.licences import StoredLicence
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import (
    Failure,
    LicenceExpired,
    LicenceInvalid,
    LicenceLimitReached,
    LicenceMissing,
    LicenceNotFound,
)
from tenantry.protocol.licences import Licence, LicenceKind, choose, covered_until, due_warning
from tenantry.protocol.messages import NotificationLevel

FINGERPRINT: Final = "licence_fingerprint"
"""The setting that holds the Master's fingerprint: made once, so that a new authority does not unbind a licence."""
_KNOWN: Final = 64


@dataclass(frozen=True, slots=True)
class InstalledLicence:
    """A licence as installed: ``licence`` where it can be verified, ``problem`` in words where it counts nothing."""

    stored: StoredLicence
    licence: Licence | None
    problem: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How a Master stands. ``refusal`` is why nothing new is let in, if so.

    ``covered_until_ms`` is the end of all licences that follow each other without a break (Unix ms).
    """

    fingerprint: str
    active: Licence | None
    refusal: Failure | None
    covered_until_ms: int
    used: int
    installed: tuple[InstalledLicence, ...]


@dataclass(frozen=True, slots=True)
class HandedLicence:
    """A tenant licence that the Master gives to a Tenant, and the public side of the key with which it signed."""

    text: str
    issuer: Issuer


class LicenceBook:
    """Judges licences by the issuers that this machine trusts. Safe for several threads."""

    def __init__(self, issuers: Callable[[], Sequence[TrustedIssuer]], seat_key: IssuerKey | None = None) -> None:
        """``issuers`` raises LicenceInvalid or OSError when they cannot be read; ``seat_key`` signs what Tenants are handed."""
        self._issuers = issuers
        self._seat_key = seat_key
        self._known: dict[tuple[str, tuple[TrustedIssuer, ...]], Licence] = {}

    def issuers(self) -> tuple[TrustedIssuer, ...]:
        """Whom this machine trusts. Raises LicenceInvalid."""
        try:
            return tuple(self._issuers())
        except OSError as error:
            raise LicenceInvalid(problem=f"the list of trusted issuers cannot be read: {error.strerror}") from None

    def verify(self, text: str) -> Licence:
        """The licence in a text. Raises LicenceInvalid."""
        key = (text, self.issuers())
        licence = self._known.get(key)
        if licence is None:
            licence = verify(*key)
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[key] = licence
        return licence

    def standing(self, transaction: Transaction, now_ms: int) -> Standing:
        """What is installed, what is in force, how much of it is used."""
        fingerprint = own_fingerprint(transaction)
        installed = tuple(self._judge(stored, fingerprint) for stored in transaction.licences.own())
        usable = [one.licence for one in installed if one.licence is not None and not one.problem]
        active = choose(usable, now_ms)
        refusal = None if active is not None else _explain(installed, usable, now_ms)
        used = transaction.licences.used(now_ms)
        return Standing(fingerprint, active, refusal, covered_until(usable, now_ms), used, installed)

    def check_in_force(self, transaction: Transaction, now_ms: int) -> Licence:
        """The licence that lets in what is new. Raises LicenceMissing, LicenceExpired."""
        standing = self.standing(transaction, now_ms)
        if standing.active is None:
            raise standing.refusal or LicenceMissing(cause="none is installed")
        return standing.active

    def check_room(self, transaction: Transaction, now_ms: int) -> None:
        """Whether there is a place for one more Tenant. Raises LicenceMissing, LicenceExpired, LicenceLimitReached."""
        licence = self.check_in_force(transaction, now_ms)
        used = transaction.licences.used(now_ms)
        if used >= licence.tenants:
            raise LicenceLimitReached(serial=licence.serial, limit=licence.tenants, used=used)

    def admit(
        self, transaction: Transaction, tenant: Tenant, fingerprint: str, own: str, now_ms: int
    ) -> HandedLicence | None:
        """A Tenant joins: with a licence of its own, which is kept, or with one that is handed to it under the Master's.

        None where it has its own, or did not say to which machine a licence would be bound. Raises LicenceMissing,
        LicenceExpired, LicenceInvalid (its own one is not its own, or not valid).
        """
        licence = self.check_in_force(transaction, now_ms)
        if own:
            self._keep_own(transaction, tenant, fingerprint, own, now_ms)
            return None
        transaction.licences.delete_of_tenant(tenant.id)
        return self.hand(licence, tenant.guid, fingerprint, now_ms)

    def admit_again(
        self, transaction: Transaction, guid: str, fingerprint: str, own: str, now_ms: int
    ) -> HandedLicence | None:
        """The same for a Tenant that is in already: what is wrong with a licence is passed over, nothing is refused."""
        tenant = transaction.tenants.get(guid)
        if own:
            with contextlib.suppress(LicenceInvalid, LicenceExpired), transaction.savepoint():
                self._keep_own(transaction, tenant, fingerprint, own, now_ms)
                return None
        active = self.standing(transaction, now_ms).active
        return None if active is None else self.hand(active, guid, fingerprint, now_ms)

    def hand(self, licence: Licence, guid: str, fingerprint: str, now_ms: int) -> HandedLicence | None:
        """A tenant licence that ends with the Master's; None where there is nothing to bind it to, or no key."""
        if self._seat_key is None or not fingerprint:
            return None
        digest = hashlib.sha256(f"{licence.serial} {guid} {fingerprint}".encode()).hexdigest()
        handed = Licence(
            serial=f"TS-{digest[:20].upper()}",
            kind=LicenceKind.TENANT,
            holder=licence.holder,
            fingerprint=fingerprint,
            issued_ms=now_ms,
            not_before_ms=licence.not_before_ms,
            not_after_ms=licence.not_after_ms,
            modules=licence.modules,
            evaluation=licence.evaluation,
        )
        return HandedLicence(sign(handed, self._seat_key), self._seat_key.issuer)

    def _keep_own(self, transaction: Transaction, tenant: Tenant, fingerprint: str, own: str, now_ms: int) -> None:
        licence = self.verify(own)
        problem = _unfit(licence, LicenceKind.TENANT, fingerprint)
        if problem:
            raise LicenceInvalid(problem=problem)
        if not licence.in_force(now_ms):
            raise LicenceExpired(serial=licence.serial, ended=_moment(licence.not_after_ms))
        known = transaction.licences.by_serial(licence.serial)
        if known is not None and known.tenant_id != tenant.id:
            raise LicenceInvalid(problem=f"the licence {licence.serial} is in use for another Tenant")
        transaction.licences.delete_of_tenant(tenant.id)
        by = f"tenant:{tenant.guid}"
        transaction.licences.insert(
            StoredLicence(licence.serial, licence.kind, own, licence.not_after_ms, now_ms, by, tenant.id)
        )

    def _judge(self, stored: StoredLicence, fingerprint: str) -> InstalledLicence:
        try:
            licence = self.verify(stored.text)
        except LicenceInvalid as invalid:
            return InstalledLicence(stored, None, invalid.metadata["problem"])
        return InstalledLicence(stored, licence, _unfit(licence, LicenceKind.MASTER, fingerprint))


def own_fingerprint(transaction: Transaction) -> str:
    """The fingerprint to which this Master's licence is bound: of its instance id and the authority that it began with."""
    kept = transaction.settings.get(FINGERPRINT)
    if kept is not None:
        return kept
    authorities = sorted(transaction.authorities.load(), key=lambda one: one.created_ms)
    first = authorities[0].fingerprint if authorities else ""
    return master_fingerprint(transaction.settings.get("instance_id") or "", first)


def install(transaction: Transaction, book: LicenceBook, actor: Actor, text: str, now_ms: int) -> Licence:
    """Keep a licence of this Master. Installing one again changes nothing. Raises LicenceInvalid, LicenceExpired."""
    licence = book.verify(text)
    problem = _unfit(licence, LicenceKind.MASTER, own_fingerprint(transaction))
    if problem:
        raise LicenceInvalid(problem=problem)
    if licence.not_after_ms <= now_ms:
        raise LicenceExpired(serial=licence.serial, ended=_moment(licence.not_after_ms))
    known = transaction.licences.by_serial(licence.serial)
    if known is not None and known.text != text:
        raise LicenceInvalid(problem=f"there is another licence of the serial {licence.serial} here already")
    if known is None:
        transaction.licences.insert(
            StoredLicence(licence.serial, licence.kind, text, licence.not_after_ms, now_ms, str(actor))
        )
    facts = {
        "serial": licence.serial,
        "holder": licence.holder,
        "tenants": licence.tenants,
        "ends": licence.not_after_ms,
        **journal.if_unchanged(known is None),
    }
    transaction.records.append([journal.audit(actor, "licence.install", now_ms, None, None, **facts)])
    return licence


def remove(transaction: Transaction, actor: Actor, serial: str, now_ms: int) -> StoredLicence:
    """Take a licence away. What runs goes on. Raises LicenceNotFound."""
    known = transaction.licences.by_serial(serial)
    if known is None:
        raise LicenceNotFound(serial=serial[:80])
    transaction.licences.delete(serial)
    transaction.records.append([journal.audit(actor, "licence.remove", now_ms, known.tenant_id, serial=serial)])
    return known


@dataclass(frozen=True, slots=True)
class EndWarning:
    """A licence comes to its end in so many days; 0: it has."""

    stored: StoredLicence
    days: int

    @property
    def text(self) -> str:
        """For operators."""
        of_tenant = self.stored.tenant_id is not None
        what = "the Tenant's own licence" if of_tenant else "the Master's licence"
        then = "the Tenant takes a place of the Master's" if of_tenant else "no Tenant can be registered or join"
        end = _moment(self.stored.not_after_ms)
        if self.days == 0:
            return f"{what} {self.stored.serial} ended at {end}: {then}; what runs goes on"
        left = "1 day" if self.days == 1 else f"{self.days} days"
        return f"{what} {self.stored.serial} ends within {left}, at {end}; after that {then}, and what runs goes on"


def due_warnings(
    transaction: Transaction, book: LicenceBook, standing: Standing, now_ms: int
) -> tuple[EndWarning, ...]:
    """The warnings that are due now and were not given yet."""
    # The one with which the coverage ends: where the next is installed already, nothing is to be warned of.
    judged = [
        (one.stored, one.licence)
        for one in standing.installed
        if one.licence is not None and not one.problem and one.licence.not_before_ms <= standing.covered_until_ms
    ]
    watched = [max(judged, key=lambda one: one[1].not_after_ms)] if judged else []
    for stored in transaction.licences.of_tenants():
        with contextlib.suppress(LicenceInvalid):
            watched.append((stored, book.verify(stored.text)))
    due = (
        (stored, due_warning(licence, licence.not_after_ms, stored.warned_days, now_ms)) for stored, licence in watched
    )
    return tuple(EndWarning(stored, days) for stored, days in due if days is not None)


def warn(transaction: Transaction, warnings: Sequence[EndWarning], now_ms: int) -> None:
    """Write these warnings down as notifications, and that they were given: they are not repeated after a restart."""
    for warning in warnings:
        level = NotificationLevel.WARNING if warning.days else NotificationLevel.ERROR
        tenant_id = warning.stored.tenant_id
        transaction.records.append([journal.notification(level, "licence", warning.text, now_ms, tenant_id)])
        transaction.licences.note_warning(warning.stored.serial, warning.days)


def _unfit(licence: Licence, kind: LicenceKind, fingerprint: str) -> str:
    if licence.kind is not kind:
        return f"it is a {licence.kind.value} licence, and a {kind.value} licence is needed"
    if licence.fingerprint != fingerprint:
        return "it was issued for another instance: its fingerprint is not this one's"
    return ""


def _explain(installed: Sequence[InstalledLicence], usable: Sequence[Licence], now_ms: int) -> Failure:
    ended = [licence for licence in usable if licence.not_after_ms <= now_ms]
    if ended:
        last = max(ended, key=lambda licence: licence.not_after_ms)
        return LicenceExpired(serial=last.serial, ended=_moment(last.not_after_ms))
    if usable:
        first = min(usable, key=lambda licence: licence.not_before_ms)
        return LicenceMissing(cause=f"{first.serial} begins only at {_moment(first.not_before_ms)}")
    if installed:
        return LicenceMissing(cause=f"{installed[-1].stored.serial} counts nothing: {installed[-1].problem}")
    return LicenceMissing(cause="none is installed")


def _moment(milliseconds: int) -> str:
    return dt.datetime.fromtimestamp(milliseconds // 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

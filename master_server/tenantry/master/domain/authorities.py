"""Which authorities are trusted and which one issues: the replacement of an authority as a table.

A replacement without an outage has four phases: *prepare* (all Masters and, through the pushed bundle, all daemons
trust old and new), *wait* until the daemons have confirmed the bundle, *activate* (the new one issues, daemons renew),
*retire* (the old one is no longer trusted, links opened under it are cut).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from tenantry.protocol.failures import AuthorityInWrongState, AuthorityNotFound, AuthorityStillNeeded
from tenantry.protocol.names import MAX_NAME, tidy_text


class AuthorityState(StrEnum):
    """Where an authority stands."""

    PREPARED = "prepared"
    """Trusted, issues nothing yet."""
    ISSUING = "issuing"
    """Trusted; issues every new certificate. Exactly one authority is in this state."""
    RETIRING = "retiring"
    """Trusted, issues nothing any more."""
    RETIRED = "retired"
    """Not trusted; the end."""


class AuthorityEvent(StrEnum):
    """What happens to an authority."""

    ACTIVATED = "activated"
    SUPERSEDED = "superseded"
    RETIRED = "retired"


AUTHORITY_TRANSITIONS: Final = {
    (AuthorityState.PREPARED, AuthorityEvent.ACTIVATED): AuthorityState.ISSUING,
    (AuthorityState.PREPARED, AuthorityEvent.RETIRED): AuthorityState.RETIRED,
    (AuthorityState.ISSUING, AuthorityEvent.SUPERSEDED): AuthorityState.RETIRING,
    # The way back, while the old authority is still trusted by everybody.
    (AuthorityState.RETIRING, AuthorityEvent.ACTIVATED): AuthorityState.ISSUING,
    (AuthorityState.RETIRING, AuthorityEvent.RETIRED): AuthorityState.RETIRED,
}
TRUSTED_STATES: Final = frozenset({AuthorityState.PREPARED, AuthorityState.ISSUING, AuthorityState.RETIRING})


class RotationPhase(StrEnum):
    """How far a replacement has come, as the states tell."""

    STEADY = "steady"
    """One trusted authority; no replacement under way."""
    DISTRIBUTING = "distributing"
    """A prepared authority waits until the daemons have confirmed the bundle."""
    RENEWING = "renewing"
    """The new authority issues; certificates of the old one are still accepted."""


@dataclass(frozen=True, slots=True)
class AuthorityStanding:
    """One authority by its id, and where it stands."""

    id: str
    state: AuthorityState


@dataclass(frozen=True, slots=True)
class Authorities:
    """All authorities of a Master, oldest first. Exactly one issues, and at most one more is trusted.

    Each move returns the authorities after it and leaves these as they are. Constructing a set that breaks the rule
    raises ValueError.
    """

    standings: tuple[AuthorityStanding, ...]

    def __post_init__(self) -> None:
        ids = [standing.id for standing in self.standings]
        issuing = [standing.id for standing in self.standings if standing.state is AuthorityState.ISSUING]
        if len(set(ids)) != len(ids):
            raise ValueError("two authorities have one id")
        if len(issuing) != 1:
            raise ValueError(f"exactly one authority must issue, not {len(issuing)}")
        if len(self.trusted) > 2:
            raise ValueError("only one replacement of an authority can be under way")

    @classmethod
    def of(cls, standings: Iterable[AuthorityStanding]) -> Self:
        """The authorities as stored, oldest first."""
        return cls(tuple(standings))

    @classmethod
    def founded(cls, authority: str) -> Self:
        """The authorities of a new Master: its first one issues."""
        return cls((AuthorityStanding(authority, AuthorityState.ISSUING),))

    @property
    def issuing(self) -> str:
        """The id of the authority that issues every new certificate."""
        return next(standing.id for standing in self.standings if standing.state is AuthorityState.ISSUING)

    @property
    def trusted(self) -> tuple[str, ...]:
        """The ids of the authorities whose certificates are accepted, oldest first."""
        return tuple(standing.id for standing in self.standings if standing.state in TRUSTED_STATES)

    @property
    def phase(self) -> RotationPhase:
        """How far a replacement has come."""
        states = {standing.state for standing in self.standings}
        if AuthorityState.PREPARED in states:
            return RotationPhase.DISTRIBUTING
        return RotationPhase.RENEWING if AuthorityState.RETIRING in states else RotationPhase.STEADY

    def state_of(self, authority: str) -> AuthorityState:
        """Where the authority stands. Raises AuthorityNotFound."""
        for standing in self.standings:
            if standing.id == authority:
                return standing.state
        raise AuthorityNotFound(authority=tidy_text(authority, MAX_NAME))

    def prepare(self, authority: str) -> "Authorities":
        """Trust a new authority that does not issue yet.

        Raises AuthorityInWrongState while another replacement is under way, ValueError for an id that is there already.
        """
        self.check_steady()
        return Authorities((*self.standings, AuthorityStanding(authority, AuthorityState.PREPARED)))

    def check_steady(self) -> None:
        """Raise AuthorityInWrongState while a replacement is under way; to be asked before a new authority is made."""
        for standing in self.standings:
            if standing.state in (AuthorityState.PREPARED, AuthorityState.RETIRING):
                raise AuthorityInWrongState(
                    authority=standing.id,
                    state=standing.state,
                    wanted=f"followed by another {AuthorityState.PREPARED} one",
                    allowed=_allowed(standing.state),
                )

    def activate(self, authority: str, unconfirmed_tenants: int, *, force: bool = False) -> "Authorities":
        """Issue from `authority` from now on; the one that issued until now begins to retire.

        `unconfirmed_tenants` counts the enrolled Tenants that have not confirmed a bundle with this authority: they
        could not verify the Master any more. Raises AuthorityStillNeeded when there are any and `force` is not set,
        AuthorityNotFound, AuthorityInWrongState.
        """
        after = self._next(authority, AuthorityEvent.ACTIVATED, AuthorityState.ISSUING)
        self._check_unneeded(self.issuing, unconfirmed_tenants, force=force)
        return self._with({self.issuing: self._next_of_issuing(), authority: after})

    def retire(self, authority: str, dependent_tenants: int, *, force: bool = False) -> "Authorities":
        """Stop trusting `authority`, a replaced one or a prepared one that is not wanted any more.

        `dependent_tenants` counts the Tenants whose certificate in use comes from it. Raises as `activate` does.
        """
        after = self._next(authority, AuthorityEvent.RETIRED, AuthorityState.RETIRED)
        self._check_unneeded(authority, dependent_tenants, force=force)
        return self._with({authority: after})

    def _next_of_issuing(self) -> AuthorityState:
        return self._next(self.issuing, AuthorityEvent.SUPERSEDED, AuthorityState.RETIRING)

    def _next(self, authority: str, event: AuthorityEvent, wanted: AuthorityState) -> AuthorityState:
        state = self.state_of(authority)
        after = AUTHORITY_TRANSITIONS.get((state, event))
        if after is None:
            raise AuthorityInWrongState(authority=authority, state=state, wanted=wanted, allowed=_allowed(state))
        return after

    def _check_unneeded(self, authority: str, tenants: int, *, force: bool) -> None:
        if tenants > 0 and not force:
            raise AuthorityStillNeeded(authority=authority, tenants=tenants)

    def _with(self, changes: dict[str, AuthorityState]) -> "Authorities":
        return Authorities(
            tuple(AuthorityStanding(known.id, changes.get(known.id, known.state)) for known in self.standings)
        )


def _allowed(state: AuthorityState) -> str:
    return ", ".join(after for (before, _), after in AUTHORITY_TRANSITIONS.items() if before is state) or "nothing"

"""The trust bundle: the roots that daemons and listeners accept at a moment, as one PEM text with a name of its own."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from tenantry.master.domain.authorities import Authorities
from tenantry.master.pki.authority import Authority, AuthorityFolder


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """Root certificates in PEM. Equal sets of roots give equal bytes, so the hash names the set."""

    pem: bytes
    sha256: str
    """SHA-256 of `pem`, lower-case hexadecimal: what a daemon confirms."""
    fingerprints: tuple[str, ...]
    """SHA-256 of each root (DER), lower-case hexadecimal, sorted."""


@dataclass(frozen=True, slots=True)
class Trust:
    """The authorities in force: who issues, and what is accepted."""

    issuing: Authority
    bundle: TrustBundle


def build_bundle(authorities: Iterable[Authority]) -> TrustBundle:
    """Return the bundle of the roots of these authorities, in the order of their fingerprints.

    Raises ValueError when there are none: an empty bundle would mean "trust whatever the system trusts" to gRPC.
    """
    roots = {authority.fingerprint: authority.root_pem for authority in authorities}
    if not roots:
        raise ValueError("a trust bundle needs at least one root")
    fingerprints = tuple(sorted(roots))
    pem = b"".join(roots[name] for name in fingerprints)
    return TrustBundle(pem, hashlib.sha256(pem).hexdigest(), fingerprints)


def load_trust(folder: AuthorityFolder, authorities: Authorities) -> Trust:
    """Read the trusted authorities from disk and return who issues and what is accepted.

    Raises what AuthorityFolder.load raises; AuthorityNotFound says that a directory is missing that the database knows.
    """
    loaded = {authority: folder.load(authority) for authority in authorities.trusted}
    return Trust(loaded[authorities.issuing], build_bundle(loaded.values()))

import hashlib

import pytest
from cryptography import x509

from tenantry.master.domain.authorities import Authorities
from tenantry.master.pki.authority import Authority, AuthorityFolder
from tenantry.master.pki.trust import build_bundle, load_trust
from tenantry.protocol.failures import AuthorityNotFound
from tests.master.pki.samples import NOW, TRUST_DOMAIN


def test_a_bundle_names_its_set_of_roots(authority: Authority, other_authority: Authority) -> None:
    """Order and repetition do not matter; the hash is that of the bytes; only roots are in it."""
    bundle = build_bundle([authority, other_authority])
    assert build_bundle([other_authority, authority, authority]) == bundle
    assert bundle.sha256 == hashlib.sha256(bundle.pem).hexdigest()
    assert bundle.fingerprints == tuple(sorted([authority.fingerprint, other_authority.fingerprint]))
    assert set(x509.load_pem_x509_certificates(bundle.pem)) == {authority.root, other_authority.root}
    assert b"PRIVATE" not in bundle.pem
    assert build_bundle([authority]).sha256 != bundle.sha256


def test_an_empty_bundle_is_refused() -> None:
    """No roots at all would make gRPC trust the system's."""
    with pytest.raises(ValueError, match="at least one root"):
        build_bundle([])


def test_trust_follows_the_states(folder: AuthorityFolder) -> None:
    """In each phase of a replacement the right authority issues and the right roots are in the bundle."""
    old, new = folder.create(TRUST_DOMAIN, NOW), folder.create(TRUST_DOMAIN, NOW)
    steady = Authorities.founded(old.id)
    both = steady.prepare(new.id)
    swapped = both.activate(new.id, 0)
    done = swapped.retire(old.id, 0)
    alone, together, after = build_bundle([old]), build_bundle([old, new]), build_bundle([new])
    expected = [(steady, old, alone), (both, old, together), (swapped, new, together), (done, new, after)]
    for authorities, issuing, bundle in expected:
        trust = load_trust(folder, authorities)
        assert trust.issuing.id == issuing.id
        assert trust.bundle == bundle


def test_an_authority_that_is_only_in_the_database_is_named(folder: AuthorityFolder) -> None:
    """A folder that was not restored with the database is told by the id that is missing."""
    made = folder.create(TRUST_DOMAIN, NOW)
    with pytest.raises(AuthorityNotFound, match="0123456789abcdef"):
        load_trust(folder, Authorities.founded(made.id).prepare("0123456789abcdef"))

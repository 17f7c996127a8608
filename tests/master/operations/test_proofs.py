"""Proofs of an earlier sign-in stand for one device of one user as the user is now, for a time, and cannot be made by others."""

from dataclasses import replace

import pytest

from tenantry.master.domain.people import User
from tenantry.master.operations.proofs import PROOF_LIFETIME_MS, PROOF_PREFIX, introductions, sign_in_proofs

NOW = 1_700_000_000_000
ADA = User(7, "ada", "", "", NOW - 5_000, password="$argon2id$one")
PROOFS = sign_in_proofs(bytes(32))


def test_a_device_keeps_its_number_and_two_have_different_ones() -> None:
    """A proof that is made anew for a device is of the same one; nothing of it says who the user is."""
    first, other = PROOFS.make(ADA, NOW), PROOFS.make(ADA, NOW)
    device = PROOFS.device_of(ADA, first, NOW)
    assert device is not None and device != PROOFS.device_of(ADA, other, NOW)
    later = PROOFS.make(ADA, NOW + 1, device)
    assert later != first and PROOFS.device_of(ADA, later, NOW + 1) == device
    assert first.startswith(PROOF_PREFIX) and "ada" not in first


@pytest.mark.parametrize(
    "changed",
    [
        replace(ADA, version=2),
        replace(ADA, id=8),
        replace(ADA, created_ms=ADA.created_ms + 1),
        replace(ADA, disabled_ms=NOW),
    ],
    ids=["changed", "somebody else", "made again with the same number", "disabled"],
)
def test_it_is_of_this_user_as_it_is(changed: User) -> None:
    """Whatever is changed about the user ends all proofs."""
    proof = PROOFS.make(ADA, NOW)
    assert PROOFS.device_of(ADA, proof, NOW) is not None
    assert PROOFS.device_of(changed, proof, NOW) is None


def test_what_a_sign_in_leaves_behind_ends_no_proof() -> None:
    """Its time, a hash that was made anew, a code that was used."""
    after = replace(ADA, last_sign_in_ms=NOW, password="$argon2id$two", totp_used_step=3)
    assert PROOFS.device_of(after, PROOFS.make(ADA, NOW), NOW) is not None


def test_it_ends_after_half_a_year() -> None:
    """Not a moment before."""
    proof = PROOFS.make(ADA, NOW)
    assert PROOFS.device_of(ADA, proof, NOW + PROOF_LIFETIME_MS) is not None
    assert PROOFS.device_of(ADA, proof, NOW + PROOF_LIFETIME_MS + 1) is None


def test_nobody_else_makes_one() -> None:
    """Each character altered, cut off, longer, in another alphabet, of another Master: no device."""
    proof = PROOFS.make(ADA, NOW)
    for at, character in enumerate(proof):
        altered = proof[:at] + ("A" if character != "A" else "B") + proof[at + 1 :]
        assert PROOFS.device_of(ADA, altered, NOW) is None, at
    for other in (
        "",
        proof[:-1],
        proof + "A",
        proof[:-1] + "é",
        "x" * 5_000,
        sign_in_proofs(b"\1" * 32).make(ADA, NOW),
    ):
        assert PROOFS.device_of(ADA, other, NOW) is None


def test_one_kind_is_not_taken_for_the_other() -> None:
    """An introduction is handed to others: it is no proof of a sign-in, whatever stands in front of it."""
    own = introductions(bytes(32))
    introduction = own.make(ADA, NOW)
    assert own.device_of(ADA, introduction, NOW) is not None
    for text in (introduction, introduction.replace("tni_", "tnp_")):
        assert PROOFS.device_of(ADA, text, NOW) is None
    assert own.device_of(ADA, PROOFS.make(ADA, NOW).replace("tnp_", "tni_"), NOW) is None

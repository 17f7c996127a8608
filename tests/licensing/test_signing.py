"""Licences with keys: what is taken is what an issuer signed, to the byte, and by an issuer who is trusted for that."""

import base64
import json
import os
import time
from pathlib import Path

import pytest

from tenantry.licensing.issuers import (
    ALL_KINDS,
    TrustedIssuer,
    TrustFile,
    decode_issuer,
    encode_issuer,
)
from tenantry.licensing.machine import machine_fingerprint, master_fingerprint
from tenantry.licensing.signing import (
    PassphraseWrong,
    generate_issuer,
    is_encrypted,
    load_issuer_key,
    read_issuer,
    store_issuer_key,
    verify,
)
from tenantry.process.files import FileExposed
from tenantry.protocol.failures import LicenceInvalid
from tenantry.protocol.licences import LicenceKind, decode_licence, open_envelope
from tests.servers.licensing import issuer_key, licence_for

FINGERPRINT = master_fingerprint("instance", "ca")
TRUSTED = (TrustedIssuer(issuer_key().issuer, ALL_KINDS, 0),)


@pytest.fixture
def long_form() -> bool:
    """Whether `make faults` runs, and not `make test`."""
    return os.environ.get("TENANTRY_FAULTS") == "long"


def refused(text: str, issuers: tuple[TrustedIssuer, ...] = TRUSTED) -> str:
    """Why a licence is refused."""
    with pytest.raises(LicenceInvalid) as caught:
        verify(text, issuers)
    return caught.value.metadata["problem"]


def test_a_licence_is_what_was_signed() -> None:
    """A genuine one is read as it was issued."""
    licence = verify(licence_for(FINGERPRINT, tenants=7), TRUSTED)
    assert (licence.kind, licence.fingerprint, licence.tenants) == (LicenceKind.MASTER, FINGERPRINT, 7)
    assert licence.in_force(time.time_ns() // 1_000_000)


def test_every_byte_of_a_licence_counts(long_form: bool) -> None:
    """Any one byte as another one: refused. At each place every single bit, and all 256 values where bits could be left over."""
    text = licence_for(FINGERPRINT, tenants=7)
    ends = {text.index("."), text.rindex("."), len(text) - 1}
    for place in range(len(text)):
        values = {ord(text[place]) ^ (1 << bit) for bit in range(8)} | set(b".=\n\r -_A")
        if long_form or ends & {place, place + 1}:
            values = set(range(256))
        for value in values - {ord(text[place])}:
            refused(text[:place] + chr(value) + text[place + 1 :])


def test_a_byte_more_or_less_is_refused() -> None:
    """Nothing may be cut off, doubled, put before or behind."""
    text = licence_for(FINGERPRINT, tenants=7)
    for place in range(len(text)):
        refused(text[:place] + text[place + 1 :])
        refused(text[:place] + text[place] + text[place:])
    for other in ("", "\n", text + text, "\ufeff" + text, text[:-1] + "\r\n", " " + text, text + " ", "ü" + text):
        refused(other)


def _encode(part: object) -> str:
    data = json.dumps(part, sort_keys=True, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "change",
    [
        {"alg": "none"},
        {"alg": "EdDSA"},
        {"alg": "HS256"},
        {"typ": "JWT"},
        {"crit": ["b64"]},
        {"b64": False},
        {"jwk": issuer_key().issuer.jwk},
        {"kid": "x"},
    ],
)
def test_the_header_says_nothing_but_the_key(change: dict[str, object]) -> None:
    """No other algorithm, no key that comes along, no extension: the header is one fixed text with a key id in it."""
    text = licence_for(FINGERPRINT, tenants=7)
    header, payload, signature = text[:-1].split(".")
    decoded = json.loads(base64.urlsafe_b64decode(header + "=="))
    assert "header" in refused(f"{_encode({**decoded, **change})}.{payload}.{signature}\n")


def test_issuers_are_told_apart_and_can_be_revoked() -> None:
    """Keys are rolled over side by side; a key that is not trusted, revoked, or only for other kinds counts nothing."""
    old, new = issuer_key(), generate_issuer("Next key")
    both = (*TRUSTED, TrustedIssuer(new.issuer, ALL_KINDS, 0))
    by_new = licence_for(FINGERPRINT, tenants=7, key=new)
    assert verify(by_new, both).tenants == 7
    assert verify(licence_for(FINGERPRINT, tenants=7), both).tenants == 7
    assert "not trusted" in refused(by_new)
    assert "revoked" in refused(by_new, (TrustedIssuer(new.issuer, ALL_KINDS, 0, 5),))
    only_tenants = frozenset({LicenceKind.TENANT})
    assert "may not issue" in refused(by_new, (TrustedIssuer(new.issuer, only_tenants, 0),))
    # A key under the id of another one: the id is the key's own digest.
    forged = by_new.split(".")
    assert "signature" in refused(".".join([licence_for(FINGERPRINT, tenants=7).split(".")[0], *forged[1:]]), both)
    assert old.issuer.kid != new.issuer.kid


def test_a_key_is_private_and_may_be_encrypted(tmp_path: Path) -> None:
    """Mode 0600; with a passphrase nobody signs without it, and its public side can still be read."""
    path, key = tmp_path / "issuer.json", generate_issuer("Me")
    store_issuer_key(path, key, None)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_issuer_key(path, None).issuer == key.issuer
    path.chmod(0o644)
    with pytest.raises(FileExposed):
        load_issuer_key(path, None)
    sealed = tmp_path / "sealed.json"
    store_issuer_key(sealed, key, "a passphrase")
    assert is_encrypted(sealed) and not is_encrypted_plain(tmp_path, key)
    assert read_issuer(sealed) == key.issuer
    for wrong in (None, "another"):
        with pytest.raises(PassphraseWrong):
            load_issuer_key(sealed, wrong)
    assert load_issuer_key(sealed, "a passphrase").issuer == key.issuer
    assert "PRIVATE" not in repr(key) and "private_key" not in repr(key)


def is_encrypted_plain(folder: Path, key) -> bool:  # type: ignore[no-untyped-def]
    """Whether a key without a passphrase is said to need one."""
    store_issuer_key(folder / "plain.json", key, None)
    return is_encrypted(folder / "plain.json")


def test_a_key_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    """A name or a public key that belongs to another key would let the wrong issuer be trusted."""
    path = tmp_path / "issuer.json"
    store_issuer_key(path, issuer_key(), None)
    content = json.loads(path.read_text())
    other = generate_issuer("Other").issuer
    for change in ({"key": other.jwk}, {"kid": other.kid}, {"key": other.jwk, "kid": other.kid}, {"version": 2}):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(LicenceInvalid):
            load_issuer_key(path, None)


def test_an_issuer_is_handed_over_in_a_file() -> None:
    """Its public key and its name, with the key's own digest."""
    issuer = issuer_key().issuer
    assert decode_issuer(encode_issuer(issuer)) == issuer
    for wrong in ("", "[]", "{}", encode_issuer(issuer).replace(issuer.kid, "A" * 43), encode_issuer(issuer)[:-20]):
        with pytest.raises(LicenceInvalid):
            decode_issuer(wrong)


def test_trust_is_kept_read_anew_and_taken_back_for_good(tmp_path: Path) -> None:
    """Another process's change is seen; a revoked key cannot be trusted again; a damaged list trusts nobody."""
    path, issuer = tmp_path / "licensing" / "issuers.json", issuer_key().issuer
    mine, other = TrustFile(path), TrustFile(path)
    assert mine.read() == ()
    other.trust(issuer, 5, frozenset({LicenceKind.MASTER}))
    assert [one.kinds for one in mine.read()] == [frozenset({LicenceKind.MASTER})]
    other.trust(issuer, 6)
    assert [one.kinds for one in mine.read()] == [ALL_KINDS]
    other.revoke(issuer.kid, 7)
    assert [one.revoked_ms for one in mine.read()] == [7]
    with pytest.raises(LicenceInvalid, match="revoked"):
        mine.trust(issuer, 8)
    with pytest.raises(LicenceInvalid):
        mine.revoke("unknown", 8)
    path.write_text("{}")
    with pytest.raises(LicenceInvalid, match="damaged"):
        mine.read()


def test_a_machine_has_one_fingerprint(tmp_path: Path) -> None:
    """From its id, which it does not give away; without one from a random one that stays; another machine has another."""
    first, second, missing = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    first.write_text("0123456789abcdef0123456789abcdef\n")
    second.write_text("f123456789abcdef0123456789abcdef\n")
    one = machine_fingerprint(tmp_path, first)
    assert one == machine_fingerprint(tmp_path / "elsewhere", first) != machine_fingerprint(tmp_path, second)
    assert "0123456789abcdef" not in one
    made = machine_fingerprint(tmp_path, missing)
    assert made == machine_fingerprint(tmp_path, missing) != one
    missing.write_text("uninitialized\n")
    assert machine_fingerprint(tmp_path, missing) == made


def test_the_payload_needs_no_key_to_be_read() -> None:
    """`status` shows what a licence says without a cryptographic library."""
    text = licence_for(FINGERPRINT, tenants=7)
    assert decode_licence(open_envelope(text).payload).tenants == 7

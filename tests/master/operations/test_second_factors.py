"""Codes open once; their secrets open with the Master's key for their user alone."""

import dataclasses
import stat
from pathlib import Path

import pyotp
import pytest

from tenantry.master.domain.people import User
from tenantry.master.operations.sealing import Seal, SealBroken, load_seal, second_factor_of
from tenantry.master.operations.second_factors import (
    RECOVERY_CODES,
    CodeUse,
    hash_recovery_codes,
    make_recovery_codes,
    make_secret,
    otpauth_uri,
    use_code,
)
from tenantry.process.files import FileExposed

NOW = 1_700_000_000_000
STEP = NOW // 30_000
SEAL = Seal(bytes(32))


@pytest.fixture
def secret() -> str:
    """A new secret."""
    return make_secret()


@pytest.fixture
def user(secret: str) -> User:
    """A user with a second factor in force."""
    return User(7, "ada", "", "", NOW, totp=SEAL.seal(second_factor_of(7), secret), totp_confirmed_ms=NOW)


@pytest.mark.parametrize("drift", [-1, 0, 1])
def test_a_code_is_right_a_step_before_and_after_its_time(user: User, secret: str, drift: int) -> None:
    """And what is used up is its step."""
    code = pyotp.TOTP(secret).generate_otp(STEP + drift)
    assert use_code(user, SEAL, f" {code[:3]} {code[3:]} ", NOW) == CodeUse(STEP + drift, (), by_recovery=False)


@pytest.mark.parametrize("drift", [-20, -2, 2, 20])
def test_a_code_of_another_time_is_wrong(user: User, secret: str, drift: int) -> None:
    """Two steps off are too many."""
    assert use_code(user, SEAL, pyotp.TOTP(secret).generate_otp(STEP + drift), NOW) is None


@pytest.mark.parametrize("code", ["", " ", "000000000", "abcdef", "12345", "-", "１２３４５６"])
def test_what_is_no_code_is_wrong(user: User, code: str) -> None:
    """Whatever is typed."""
    assert use_code(user, SEAL, code, NOW) is None


def test_a_code_opens_once_and_so_does_none_before_it(user: User, secret: str) -> None:
    """Replayed within its validity: refused; the one before it too, which somebody may have seen."""
    totp = pyotp.TOTP(secret)
    used = use_code(user, SEAL, totp.generate_otp(STEP), NOW)
    assert used is not None
    after = dataclasses.replace(user, totp_used_step=used.used_step)
    assert use_code(after, SEAL, totp.generate_otp(STEP), NOW) is None
    assert use_code(after, SEAL, totp.generate_otp(STEP - 1), NOW) is None
    assert use_code(after, SEAL, totp.generate_otp(STEP + 1), NOW) is not None


def test_each_recovery_code_opens_once(user: User) -> None:
    """Ten, all different, kept as hashes; capitals, spaces and dashes do not matter."""
    codes = make_recovery_codes()
    assert len(set(codes)) == RECOVERY_CODES
    left = dataclasses.replace(user, recovery_codes=hash_recovery_codes(codes))
    assert not any(code in repr(left.recovery_codes) for code in codes)
    for number, code in enumerate(codes, 1):
        use = use_code(left, SEAL, code.upper().replace("-", " "), NOW)
        assert use is not None and use.by_recovery
        assert len(use.recovery_codes) == RECOVERY_CODES - number
        left = dataclasses.replace(left, recovery_codes=use.recovery_codes)
        assert use_code(left, SEAL, code, NOW) is None


def test_a_sealed_secret_opens_for_its_user_and_its_key_alone(secret: str) -> None:
    """Another user's row, another Master's key, a flipped bit, garbage: all refused; sealed twice it differs."""
    sealed = SEAL.seal(second_factor_of(7), secret)
    assert SEAL.open(second_factor_of(7), sealed) == secret
    assert secret not in sealed and sealed != SEAL.seal(second_factor_of(7), secret)
    flipped = sealed[:-2] + ("A" if sealed[-2] != "A" else "B") + sealed[-1]
    for seal, number, kept in (
        (SEAL, 8, sealed),
        (Seal(b"\1" * 32), 7, sealed),
        (SEAL, 7, flipped),
        (SEAL, 7, "s1."),
        (SEAL, 7, "garbage"),
    ):
        with pytest.raises(SealBroken) as caught:
            seal.open(second_factor_of(number), kept)
        assert secret not in str(caught.value)


def test_the_key_is_a_private_file_that_stays(tmp_path: Path, secret: str) -> None:
    """Made at the first start, mode 0600; one that others can read is not used."""
    path = tmp_path / "second-factor.key"
    sealed = load_seal(path).seal(second_factor_of(7), secret)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_seal(path).open(second_factor_of(7), sealed) == secret
    path.chmod(0o644)
    with pytest.raises(FileExposed):
        load_seal(path)


def test_authenticators_are_told_whose_secret_it_is(secret: str) -> None:
    """The URI names the user and the Master, and stands for what RFC 6238 does by default."""
    parsed = pyotp.parse_uri(otpauth_uri(secret, "ada@example.org", "master.example.org"))
    assert isinstance(parsed, pyotp.TOTP)
    assert (parsed.name, parsed.issuer, parsed.secret) == ("ada@example.org", "Tenantry master.example.org", secret)
    assert (parsed.digits, parsed.interval) == (6, 30)


def test_nothing_secret_is_in_the_repr_of_a_user(user: User, secret: str) -> None:
    """Hashes and sealed secrets neither: a repr ends up in logs."""
    known = dataclasses.replace(user, password="$argon2id$canary", recovery_codes=("canary",))
    assert "canary" not in repr(known) and secret not in repr(known) and "s1." not in repr(known)

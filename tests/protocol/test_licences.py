"""Licences without keys: one form to the byte, which of several counts, and when a warning is due."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.protocol.failures import LicenceInvalid
from tenantry.protocol.licences import (
    DAY_MS,
    Licence,
    LicenceKind,
    LicenceRequest,
    choose,
    covered_until,
    decode_licence,
    decode_request,
    due_warning,
    encode_licence,
    encode_request,
)

MASTER = "master-" + "a" * 64
MACHINE = "machine-" + "b" * 64
NOW = 1_700_000_000_000


def licence(begins: int = NOW, days: int = 365, serial: str = "TL-12345678", **values: object) -> Licence:
    """A Master's licence."""
    end = begins + days * DAY_MS
    facts = Licence(serial, LicenceKind.MASTER, "Holder", MASTER, begins, begins, end, tenants=5)
    return dataclasses.replace(facts, **values)  # type: ignore[arg-type]


LICENCES = st.builds(
    lambda kind, holder, begins, length, tenants, modules, evaluation: licence(
        begins,
        length,
        kind=kind,
        holder=holder,
        fingerprint=MASTER if kind is LicenceKind.MASTER else MACHINE,
        tenants=tenants if kind is LicenceKind.MASTER else 0,
        modules=tuple(sorted(modules)),
        evaluation=evaluation,
    ),
    st.sampled_from(LicenceKind),
    st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=40),
    st.integers(0, NOW),
    st.integers(1, 10_000),
    st.integers(1, 1_000_000),
    st.sets(st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True), max_size=4),
    st.booleans(),
)


@given(LICENCES)
def test_a_licence_has_one_payload(one: Licence) -> None:
    """What is encoded is read back as it was."""
    assert decode_licence(encode_licence(one)) == one


@given(st.sampled_from(LicenceKind), st.integers(0, 1_000))
def test_a_request_has_one_text(kind: LicenceKind, tenants: int) -> None:
    """What is written is read back as it was."""
    is_master = kind is LicenceKind.MASTER
    asked = LicenceRequest(kind, MASTER if is_master else MACHINE, NOW, "Me", tenants if is_master else 0, ("a", "b"))
    assert decode_request(encode_request(asked)) == asked


def test_every_byte_of_a_request_counts() -> None:
    """A request in which any one byte is another is refused."""
    text = encode_request(LicenceRequest(LicenceKind.MASTER, MASTER, NOW, "Me", 5))
    for place in range(len(text)):
        for other in {"a", "1", '"', "\n", chr(ord(text[place]) ^ 1)} - {text[place]}:
            with pytest.raises(LicenceInvalid):
                decode_request(text[:place] + other + text[place + 1 :])


@pytest.mark.parametrize(
    "values",
    [
        {"serial": "short"},
        {"serial": "with space"},
        {"holder": ""},
        {"holder": "a\nb"},
        {"fingerprint": MACHINE},
        {"fingerprint": "master-1"},
        {"kind": LicenceKind.TENANT},
        {"tenants": 0},
        {"tenants": -1},
        {"tenants": True},
        {"modules": ("b", "a")},
        {"modules": ("a", "a")},
        {"modules": ("A",)},
        {"not_after_ms": NOW},
        {"issued_ms": -1},
        {"evaluation": 1},
    ],
)
def test_what_breaks_a_rule_cannot_be_a_licence(values: dict[str, object]) -> None:
    """Serial, holder, binding, limits and times have rules, which the writer keeps too."""
    with pytest.raises(LicenceInvalid):
        encode_licence(licence(**values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"version":1', '"version":2'),
        lambda text: text.replace('"version":1', '"version":1.0'),
        lambda text: text.replace('"tenants":5', '"tenants":"5"'),
        lambda text: text.replace("{", '{"extra":1,', 1),
        lambda text: text.replace("{", '{"serial":"TL-99999999",', 1),
        lambda text: text.replace('"kind":"master"', '"kind":"emperor"'),
        lambda text: text.replace(",", ", "),
        lambda _text: "[]",
        lambda _text: "{}",
        lambda _text: "[" * 100_000,
    ],
)
def test_a_payload_in_another_form_is_refused(change) -> None:  # type: ignore[no-untyped-def]
    """Unknown or repeated fields, other types, blanks: whatever is not the one form."""
    with pytest.raises(LicenceInvalid):
        decode_licence(change(encode_licence(licence()).decode()).encode())


def test_of_several_the_one_that_was_issued_last_counts() -> None:
    """A renewal that begins later waits for its turn; nothing counts outside of its time, whatever the clock says."""
    first, second = licence(NOW, 100), licence(NOW + 50 * DAY_MS, 100, "TL-22222222")
    assert choose([first, second], NOW) == first
    assert choose([first, second], NOW + 60 * DAY_MS) == second
    assert choose([first, second], NOW - 1) is None
    assert choose([first, second], second.not_after_ms) is None
    assert covered_until([second, first], NOW) == second.not_after_ms
    assert covered_until([first, licence(NOW + 101 * DAY_MS, 5)], NOW) == first.not_after_ms
    assert covered_until([], NOW) == NOW


@pytest.mark.parametrize(
    ("left_days", "warned", "due"),
    [
        (31, None, None),
        (30, None, 30),
        (29, 30, None),
        (7, 30, 7),
        (7, 7, None),
        (5, None, 7),
        (1, 7, 1),
        (1, None, 1),
        (0, 1, 0),
        (0, 0, None),
        (-5, None, 0),
        (20, 7, None),
    ],
)
def test_a_warning_is_due_once(left_days: int, warned: int | None, due: int | None) -> None:
    """Of several only the most urgent; none again, also when the clock was set back."""
    one = licence()
    assert due_warning(one, one.not_after_ms, warned, one.not_after_ms - left_days * DAY_MS) == due


def test_a_short_licence_is_not_announced_from_its_beginning_on() -> None:
    """An evaluation of 30 days warns 7 days before its end, not on its first day."""
    one = licence(days=30)
    assert due_warning(one, one.not_after_ms, None, NOW) is None
    assert due_warning(one, one.not_after_ms, None, NOW + 24 * DAY_MS) == 7

"""Times, escaping, tables and plain data."""

import datetime as dt
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.cli.documents import to_plain
from tenantry.cli.escaping import cells, escape, shorten
from tenantry.cli.moments import ago, length, local_time, parse_length, parse_moment, to_duration, to_timestamp
from tenantry.cli.output import Cell, Column, Printer
from tenantry.cli.troubles import InputInvalid
from tenantry.v1 import stream_service_pb2 as stream_pb
from tenantry.v1 import tenant_pb2 as pb
from tenantry.v1 import tenant_service_pb2 as service_pb

NOW = 1_700_000_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("-1h", NOW - 3_600_000),
        ("-1h30m", NOW - 5_400_000),
        ("1699999999000", 1_699_999_999_000),
        ("2023-11-14T22:13:20Z", NOW),
        ("2023-11-14T23:13:20+01:00", NOW),
    ],
)
def test_times_are_understood(text: str, expected: int) -> None:
    """Relative, absolute, with an offset, and in milliseconds."""
    assert parse_moment(text, NOW) == expected


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_a_time_without_offset_is_local(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an operator types and reads is in the zone of the machine."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        shown = local_time(NOW)
        assert parse_moment(shown, 0) == NOW
        assert parse_moment(shown[:10], 0) == int(dt.datetime.fromisoformat(shown[:10]).timestamp() * 1000)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("text", ["", "yesterday", "-", "-1x", "2023-13-01", "99999-01-01", "--1h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """With examples of what is one."""
    with pytest.raises(InputInvalid):
        parse_moment(text, NOW)
    with pytest.raises(InputInvalid):
        parse_length(text or "x")


def test_lengths_are_short() -> None:
    """The largest unit is enough; the future counts as now."""
    shown = [length(milliseconds) for milliseconds in (0, 1_500, 61_000, 7_300_000, 3 * 86_400_000)]
    assert shown == ["0 s", "1 s", "1 min", "2 h", "3 d"]
    assert ago(NOW + 5_000, NOW) == "0 s ago"


@given(st.text())
def test_escaped_text_is_printable(text: str) -> None:
    """Nothing that a terminal obeys survives, and printable text is left alone."""
    escaped = escape(text)
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in escaped)
    assert escape(escaped) == escaped
    if text.isprintable():
        assert escaped == text


@given(st.text(), st.integers(1, 40))
def test_shortened_text_fits(text: str, width: int) -> None:
    """Whatever its width, a text is cut to the columns that there are."""
    assert cells(shorten(escape(text), width)) <= width


def test_tables_keep_columns_apart_after_the_sample() -> None:
    """Rows behind those that decided about the widths are not cut where no terminal is."""
    columns: list[Column[str]] = [
        Column("NAME", lambda text: text),
        Column("LENGTH", lambda text: str(len(text)), right=True),
    ]
    lines = list(Printer("table", colour=False).table(["a"] * 200 + ["b" * 50], columns))
    assert lines[0] == "NAME  LENGTH"
    assert lines[-1].split() == ["b" * 50, "50"]


def test_wide_characters_keep_columns_straight() -> None:
    """A name in Chinese takes two columns a character."""
    columns: list[Column[str]] = [Column("NAME", lambda text: Cell(text, "red")), Column("X", lambda _text: "x")]
    lines = list(Printer("table", colour=False).table(["租户", "abcd"], columns))
    assert [cells(line) for line in lines] == [7, 7, 7]


def test_plain_data_of_every_kind() -> None:
    """Maps, durations, structs, 64-bit numbers, enums that are not known, and a oneof."""
    configuration = pb.TenantConfiguration(version=2**63, heartbeat_interval=to_duration(1_500))
    configuration.probe_intervals["b"].CopyFrom(to_duration(60_000))
    configuration.probe_intervals["a"].CopyFrom(to_duration(1))
    assert to_plain(configuration) == {
        "version": 2**63,
        "heartbeat_interval": "1.500s",
        "probe_intervals": {"a": "0.001s", "b": "60s"},
        "disabled_probes": [],
    }
    record = stream_pb.Record(timestamp=to_timestamp(NOW))
    record.fields.update({"value": 1.5, "labels": {"cpu": "0"}, "list": [1, None, True, float("nan")]})
    plain = to_plain(record)
    assert plain["fields"] == {"value": 1.5, "labels": {"cpu": "0"}, "list": [1, None, True, None]}
    assert json.dumps(plain["fields"]["list"]) == "[1, null, true, null]"
    assert (plain["timestamp"], plain["received_at"]) == ("2023-11-14T22:13:20.000Z", None)
    assert to_plain(pb.Tenant(state=77))["state"] == "77"  # type: ignore[arg-type]
    assert to_plain(service_pb.WatchTenantsResponse(gone="x")) == {"gone": "x"}

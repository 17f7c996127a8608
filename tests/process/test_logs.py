import io
import json
import logging
import subprocess
import sys
import warnings
from dataclasses import dataclass

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from tenantry.process.logs import configure_logging
from tenantry.process.redaction import REDACTED, names_secret, redact_text, redact_value
from tenantry.protocol.joining import KEY_PREFIX, TOKEN_PREFIX, JoinTicket, encode_join_string, make_secret

_KEY = make_secret(KEY_PREFIX, bytes(range(36))).text
_TOKEN = make_secret(TOKEN_PREFIX, bytes(range(100, 136))).text
_JOIN = encode_join_string(
    JoinTicket("0d4f6f1e-5b1c-4d53-9f55-0c1a4a1b2c3d", _KEY, "master.example", 7443, "ab" * 32, "tenantry.internal")
)
_PEM_BODY = "MHcCAQEEICanaryCanaryCanaryCanaryCanary"
_PEM = f"-----BEGIN EC PRIVATE KEY-----\n{_PEM_BODY}\n-----END EC PRIVATE KEY-----\n"
_DSN = "postgresql+psycopg://tenantry:hunter2-canary@db.example:5432/tenantry"
_CANARIES = (_KEY, _TOKEN, _JOIN.removeprefix("tenantry-join:"), _PEM_BODY, "hunter2-canary")
_ALL_SECRETS = f"{_KEY} {_TOKEN} {_JOIN} {_PEM} {_DSN}"
_FORGERIES = 'x\r\n{"event":"forged"}\x1b[31m\u2028\u2029\x85\x9b\x0b\x0cend'


@dataclass
class _Holder:
    """An object whose repr gives its secrets away."""

    credentials: str


class _Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def _records(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def _log_everything() -> None:
    log = structlog.get_logger("tenantry.test")
    log.info("field values", text=_ALL_SECRETS, blob=_ALL_SECRETS.encode(), parts=[_KEY, {"deep": (_DSN,)}])
    log.info("field names", password="hunter2-canary", apiKey="hunter2-canary", nested={"X-Token": "hunter2-canary"})
    log.info("objects", holder=_Holder(_ALL_SECRETS), secrets={_KEY: 1})
    log.info(_ALL_SECRETS)
    logging.getLogger("grpc._server").error("stdlib %s", _ALL_SECRETS)
    logging.getLogger("sqlalchemy.engine").error("dict %r", {"dsn": _DSN}, extra={"password": "hunter2-canary"})
    try:
        try:
            raise ValueError(_ALL_SECRETS)
        except ValueError as cause:
            raise RuntimeError(_DSN) from cause
    except RuntimeError as error:
        error.add_note(_PEM)
        log.exception("a chain")
        log.error("an instance", exc_info=error, error=error)
        logging.getLogger("grpc").exception("stdlib exception")
    warnings.warn(_ALL_SECRETS, UserWarning, stacklevel=1)


@pytest.mark.parametrize("stream", [io.StringIO, _Terminal])
def test_no_canary_reaches_the_log(stream: type[io.StringIO]) -> None:
    """Secrets in values, names, objects, messages, exceptions, notes and warnings are all gone, on every path."""
    out = stream()
    configure_logging("debug", out)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        _log_everything()
        logging.captureWarnings(capture=False)
    text = out.getvalue()
    assert text.count("\n") == 10
    assert REDACTED in text
    for canary in _CANARIES:
        assert canary not in text


def test_json_records_have_time_level_logger_and_fields() -> None:
    """One object a line, for our events and for those of libraries alike."""
    out = io.StringIO()
    configure_logging("info", out)
    structlog.get_logger("tenantry.master").info("tenant connected", tenant="a", count=3, ratio=0.5, ok=True, none=None)
    logging.getLogger("sqlalchemy.pool").warning("pool %s of %d", "low", 2)
    ours, theirs = _records(out)
    assert str(ours.pop("timestamp")).endswith("Z")
    assert ours == {
        "level": "info",
        "logger": "tenantry.master",
        "event": "tenant connected",
        "tenant": "a",
        "count": 3,
        "ratio": 0.5,
        "ok": True,
        "none": None,
    }
    assert theirs["event"] == "pool low of 2"
    assert theirs["level"] == "warning"
    assert theirs["logger"] == "sqlalchemy.pool"


def test_context_goes_with_each_record() -> None:
    """What was bound to the context, like a request id, is in the records of both kinds."""
    out = io.StringIO()
    configure_logging("info", out)
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        structlog.get_logger("a").info("ours")
        logging.getLogger("b").warning("theirs")
    assert [record["request_id"] for record in _records(out)] == ["r1", "r1"]


def test_levels_filter_and_libraries_are_quiet() -> None:
    """Below the level nothing is written; libraries' routine INFO needs debug; an unknown level is refused."""
    out = io.StringIO()
    configure_logging("info", out)
    structlog.get_logger("a").debug("hidden")
    logging.getLogger("sqlalchemy.engine").info("hidden")
    logging.getLogger("alembic.runtime").info("hidden")
    assert out.getvalue() == ""
    configure_logging("debug", out)
    logging.getLogger("sqlalchemy.engine").info("shown")
    assert len(_records(out)) == 1
    with pytest.raises(ValueError, match="use one of debug, info, warning, error"):
        configure_logging("loud", out)


@pytest.mark.parametrize("console", [False, True])
def test_one_record_is_one_line(console: bool) -> None:
    """Line breaks of every kind, escape sequences and forged records stay in their line, wherever they stand."""
    out = io.StringIO()
    configure_logging("info", out, console=console)
    log = structlog.get_logger(_FORGERIES)
    log.info(_FORGERIES, name=_FORGERIES, **{_FORGERIES: [_FORGERIES, {_FORGERIES: _FORGERIES}]})
    logging.getLogger("grpc").error("peer %s", _FORGERIES, stack_info=True)
    try:
        raise ValueError(_FORGERIES)
    except ValueError:
        log.exception("failed")
    text = out.getvalue()
    assert text.count("\n") == 3
    assert len(text.splitlines()) == 3
    assert not any(character in text for character in "\r\x1b\x85\x9b\u2028\u2029\x0b\x0c")
    if not console:
        assert _records(out)[0]["name"] == _FORGERIES


@given(st.text(), st.text(), st.booleans())
def test_any_text_is_one_line(name: str, value: str, console: bool) -> None:
    """Whatever the text, one record is one line for every reader's idea of a line."""
    out = io.StringIO()
    configure_logging("info", out, console=console)
    structlog.get_logger("t").info("event", **{f"n{name}": value})
    assert len(out.getvalue().splitlines()) == 1


def test_a_broken_record_is_reported_without_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    """A format error neither raises, nor vanishes, nor prints the arguments to stderr."""
    out = io.StringIO()
    configure_logging("info", out)
    logging.getLogger("grpc").error("number %d", _KEY)
    (record,) = _records(out)
    assert record["event"] == "log record could not be written"
    assert _KEY not in out.getvalue() + "".join(capsys.readouterr())


def test_a_log_that_cannot_be_written_ends_nothing() -> None:
    """A stream that was closed, or a disk that is full: whoever logs goes on, also where it logs because of an error."""

    class Full(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(28, "No space left on device")

    closed = io.StringIO()
    closed.close()
    for stream in (closed, Full()):
        configure_logging("info", stream, console=False)
        structlog.get_logger("a").error("ours", exc_info=ValueError("x"))
        logging.getLogger("grpc").error("number %d", "none")


def test_an_object_that_cannot_be_described_is_still_logged() -> None:
    """A repr that raises does not lose the record."""

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError(_KEY)

    out = io.StringIO()
    configure_logging("info", out)
    structlog.get_logger("a").info("event", it=Broken(), deep=[[[[[[[[1]]]]]]]], many=range(5), big=list(range(5000)))
    (record,) = _records(out)
    assert "cannot be described" in str(record["it"])
    assert len(str(record["big"])) < 10_000
    assert _KEY not in out.getvalue()


_FAILING_PROGRAM = """
import sys, threading
from tenantry.process.logs import configure_logging
configure_logging("info")
class Dropped:
    def __del__(self):
        raise ValueError(sys.argv[1])
Dropped()
thread = threading.Thread(target=lambda: 1 / 0 if not sys.argv[1] else (_ for _ in ()).throw(ValueError(sys.argv[1])))
thread.start()
thread.join()
raise RuntimeError(sys.argv[1])
"""


def test_uncaught_exceptions_are_records_too() -> None:
    """What ends a program, a thread or a destructor is one redacted line each, and the exit code stays 1."""
    done = subprocess.run(
        [sys.executable, "-c", _FAILING_PROGRAM, _ALL_SECRETS], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    records = [json.loads(line) for line in done.stderr.splitlines()]
    assert [record["event"] for record in records] == [
        "exception could not be raised",
        "uncaught exception in thread",
        "uncaught exception",
    ]
    assert all("Error: " in record["exception"] for record in records)
    for canary in _CANARIES:
        assert canary not in done.stderr


@pytest.mark.parametrize(
    "name",
    ["password", "apiKey", "X-API-KEY", "registration_key", "key", "Authorization", "set-cookie", "tls_private_key_pem",
     "tokens", "client_secret", "dsn", "password_hash", "databaseDsn", "join_string"],
)  # fmt: skip
def test_names_that_say_secret(name: str) -> None:
    """Each usual spelling of a name for a secret is recognised."""
    assert names_secret(name)


@pytest.mark.parametrize(
    "name",
    ["tenant", "key_id", "token_id", "public_key", "spki_sha256", "fingerprint", "keyboard", "monkey", "tokens_left",
     "secret_name", "event", "serial"],
)  # fmt: skip
def test_names_that_are_harmless(name: str) -> None:
    """Names that only sound alike stay readable."""
    assert not names_secret(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://user:p@ss@host/db?x=1", f"postgresql://user:{REDACTED}@host/db?x=1"),
        ("see https://example.com:8443/path", "see https://example.com:8443/path"),
        ("mail a@b.example", "mail a@b.example"),
        ("host=x password=abc user=y", f"host=x password={REDACTED} user=y"),
        ("host=x password='a b c' user=y", f"host=x password={REDACTED} user=y"),
        ("authorization: Bearer abcdefghijk", f"authorization: Bearer {REDACTED}"),
        ("spiffe://tenantry.internal/tenant/x", "spiffe://tenantry.internal/tenant/x"),
        (f"<{_KEY}>", f"<tnk_{REDACTED}>"),
        (repr(_PEM), f"'{REDACTED}\\n'"),
        (_PEM[:60], REDACTED),
    ],
)
def test_only_the_secret_part_is_removed(text: str, shown: str) -> None:
    """What surrounds a secret stays readable."""
    assert redact_text(text) == shown


@pytest.mark.parametrize(
    "text",
    ["://:" * 300_000, "password='" * 100_000, "-----BEGIN PRIVATE KEY-----" * 40_000, "tnk_" * 250_000, "@://a:" * 200_000,
     "bearer  " * 100_000],
)  # fmt: skip
def test_hostile_texts_are_cut_and_cheap(text: str) -> None:
    """Megabytes made to exhaust a pattern matcher are cut; the global time limit guards the cost."""
    assert len(redact_text(text)) < 33_000


def test_a_secret_across_the_cut_is_not_half_shown() -> None:
    """The last word before the cut is dropped, so that no half of a password in a DSN stays."""
    private_key = _PEM_BODY * 800
    before = f"-----BEGIN PRIVATE KEY-----{private_key}-----END PRIVATE KEY----- "
    for padding in range(20, 70, 3):
        filler = "x " * ((65_536 - len(before) - padding) // 2)
        assert "hunter2" not in redact_text(f"{before}{filler}{_DSN} and {'more ' * 100}")


def test_plain_data_stays_as_it_is() -> None:
    """Numbers, text, lists and dictionaries without secrets come out unchanged."""
    assert redact_value({"a": [1, 2.5, None, True, "x"]}) == {"a": [1, 2.5, None, True, "x"]}

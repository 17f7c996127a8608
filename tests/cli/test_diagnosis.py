"""How commands end: exit codes, explanations, hints."""

import json
import signal
import socket
import subprocess
import threading
from collections.abc import Callable

import grpc
import pytest

from tenantry.cli.diagnosis import EXIT_CODES, diagnose, reasons_of
from tenantry.cli.profiles import Profile, Profiles, changing_profiles
from tenantry.protocol import failures
from tenantry.protocol.failures import (
    CATALOGUE,
    EXIT_BUG,
    EXIT_DENIED,
    EXIT_LIMIT,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    Failure,
    InternalFault,
)
from tests.cli.certificates import make_identity
from tests.cli.conftest import END_S, Person
from tests.cli.fake_master import TOKEN, FakeMaster
from tests.servers.ports import steady_port


def test_every_exit_code_is_documented() -> None:
    """The one table names each code that a failure can have, and help shows it."""
    documented = [code for code, _ in EXIT_CODES]
    assert len(documented) == len(set(documented))
    constants = {value for name, value in vars(failures).items() if name.startswith("EXIT_")}
    assert constants <= set(documented)
    assert {reason for code in documented for reason in reasons_of(code)} == set(CATALOGUE)


@pytest.mark.parametrize("kind", CATALOGUE.values(), ids=CATALOGUE.keys())
def test_every_failure_is_explained_over_the_wire(operator: Person, master: FakeMaster, kind: type[Failure]) -> None:
    """Message, hint and exit code of each failure of the catalogue reach the operator."""
    facts = ("field", "problem", "expected", "state", "allowed", "wanted", "tenant", "etag", "cause", "request_id")
    failure = kind(**{name: f"<{name}>" for name in facts})
    master.failing["GetMaster"] = failure
    error = operator.error("status")
    assert error["reason"] == kind.reason
    assert error["exit_code"] == kind.exit_code
    assert error["message"] == failure.describe()
    assert error["hint"] == failure.advise() != ""


def test_help_shows_the_exit_codes(stranger: Person) -> None:
    """The codes stand in --help, and with their reasons in a topic."""
    shown = stranger.done("--help")
    topic = stranger.done("help", "exit-codes")
    for code, meaning in EXIT_CODES:
        assert f"{code:>4}  {meaning}" in shown
        assert meaning in topic
    assert "TENANT_IN_WRONG_STATE" in topic
    assert "TENANTRY_PROFILES" in stranger.done("help", "environment")
    assert "snake_case" in stranger.done("help", "output")


def test_a_refused_connection_is_explained(operator: Person, master: FakeMaster) -> None:
    """Nobody listens: the address, the reason and a hint."""
    master.stop()
    error = operator.error("status")
    assert (error["reason"], error["exit_code"]) == ("MASTER_UNREACHABLE", EXIT_UNREACHABLE)
    assert error["metadata"]["obstacle"] == "CONNECTION_REFUSED"
    assert "tenantry-master run" in error["hint"]


def sign_in_to(person: Person, address: str, roots: str, trust_domain: str = "tenantry.internal") -> None:
    """Store a profile without the command."""
    with changing_profiles(person.profiles) as held:
        held[0] = Profiles("x", {"x": Profile(address, trust_domain, roots, TOKEN)})


def test_a_name_that_does_not_exist_is_explained(stranger: Person) -> None:
    """A misspelt host."""
    sign_in_to(stranger, "master.invalid:7443", make_identity().root)
    error = stranger.error("status", "--timeout", "20")
    assert error["metadata"]["obstacle"] in {"NAME_NOT_RESOLVED", "TIMED_OUT"}
    assert error["exit_code"] == EXIT_UNREACHABLE


def test_another_service_at_the_port_is_explained(stranger: Person) -> None:
    """Something that does not speak TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            while True:
                try:
                    visitor, _ = listener.accept()
                except OSError:
                    return
                with visitor:
                    visitor.sendall(b"220 mail.example ESMTP\r\n")

        greeter = threading.Thread(target=greet, daemon=True)
        greeter.start()
        sign_in_to(stranger, f"127.0.0.1:{listener.getsockname()[1]}", make_identity().root)
        error = stranger.error("status", "--timeout", "20")
        listener.shutdown(socket.SHUT_RDWR)
        greeter.join(END_S)
    assert error["metadata"]["obstacle"] == "NOT_TLS"


@pytest.mark.parametrize(
    ("identity", "obstacle"),
    [
        (lambda: make_identity(("elsewhere.example",)), "WRONG_NAME"),
        (lambda: make_identity(valid_from_days=-20, valid_days=10), "EXPIRED"),
        (lambda: make_identity(valid_from_days=10), "NOT_YET_VALID"),
    ],
)
def test_a_wrong_certificate_is_explained(stranger: Person, identity: Callable[[], object], obstacle: str) -> None:
    """The certificate's name and dates are told apart from a foreign authority."""
    made = identity()
    with FakeMaster(made) as master:  # type: ignore[arg-type]
        sign_in_to(stranger, master.address, master.identity.root)
        assert stranger.error("status")["metadata"]["obstacle"] == obstacle


def test_a_silent_master_is_not_waited_for(operator: Person, master: FakeMaster) -> None:
    """--timeout bounds the call; that it may have happened is said."""
    master.silent.add("GetMaster")
    error = operator.error("status", "--timeout", "2")
    assert (error["reason"], error["exit_code"]) == ("DEADLINE_EXCEEDED", EXIT_UNREACHABLE)
    assert "before you repeat" in error["hint"]


def test_ctrl_c_ends_a_call_that_waits(operator: Person, master: FakeMaster) -> None:
    """Interrupted in the middle of a call: 130, and not a word."""
    master.silent.add("GetMaster")
    with operator.start("status", "--timeout", "600", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert master.asked.wait(END_S)
        process.send_signal(signal.SIGINT)
        assert process.wait(END_S) == 130
        assert process.stderr.read().strip() == ""


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, EXIT_DENIED),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, EXIT_LIMIT),
        (grpc.StatusCode.INVALID_ARGUMENT, EXIT_USAGE),
        (grpc.StatusCode.UNIMPLEMENTED, EXIT_BUG),
        (grpc.StatusCode.INTERNAL, EXIT_UNREACHABLE),
    ],
)
def test_a_status_without_a_reason_goes_by_its_code(
    operator: Person, master: FakeMaster, code: grpc.StatusCode, exit_code: int
) -> None:
    """What a proxy or another version answers still gets an exit code; its text is escaped."""
    master.failing["GetMaster"] = code
    result = operator.run("status")
    assert result.exit_code == exit_code
    assert r"scripted \x1b[31mtrouble" in result.stderr


def test_errors_are_json_where_json_is_wanted(operator: Person, master: FakeMaster) -> None:
    """One line on stderr, nothing on stdout, wherever the option stands."""
    master.failing["GetMaster"] = InternalFault(request_id="r1")
    for words in (("-o", "json", "status"), ("status", "--output=json"), ("status", "-ojson")):
        result = operator.run(*words)
        assert result.stdout == ""
        assert json.loads(result.stderr)["error"]["metadata"] == {"request_id": "r1"}
    result = operator.run("status", "--nonsense", "-o", "json")
    assert (result.exit_code, json.loads(result.stderr)["error"]["reason"]) == (EXIT_USAGE, "USAGE")


def test_a_bug_is_reported_without_a_traceback_and_without_secrets() -> None:
    """What nobody foresaw ends with its own code; a token in its text is not shown."""
    diagnosis = diagnose(RuntimeError(f"broken with {TOKEN}"))
    assert diagnosis.exit_code == EXIT_BUG
    assert TOKEN not in diagnosis.message


def test_a_reader_that_goes_away_is_no_error(operator: Person, master: FakeMaster) -> None:
    """`tenantry tenant list | head` says nothing, and ends as a broken pipe does."""
    for number in range(2_000):
        master.tenants[str(number)] = master.add(f"client {number}")
    with operator.start("tenant", "list", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "NAME" in process.stdout.readline()
        process.stdout.close()
        assert process.wait(END_S) == 141
        assert process.stderr.read() == ""


def test_a_closed_port_is_noticed_quickly(stranger: Person) -> None:
    """The explanation of a refused connection does not wait for the time limit."""
    sign_in_to(stranger, f"127.0.0.1:{steady_port()}", make_identity().root)
    assert stranger.error("status", "--timeout", "3600")["reason"] == "MASTER_UNREACHABLE"

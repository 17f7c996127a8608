"""Streams, the gap ledger and authorities."""

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from tenantry.cli.following import keep_following
from tenantry.cli.troubles import CallRefused, MasterUnreachable
from tenantry.protocol.failures import (
    EXIT_NOT_FOUND,
    EXIT_USAGE,
    EXIT_WRONG_STATE,
    MasterStopping,
    NotSignedIn,
    StreamNotFound,
)
from tenantry.v1 import authority_service_pb2 as authority_pb
from tenantry.v1 import link_service_pb2 as link_pb
from tenantry.v1 import stream_service_pb2 as pb
from tests.cli.conftest import END_S, Person
from tests.cli.fake_master import FakeMaster, timestamp


def add_metric(
    master: FakeMaster, value: float, *, seconds_ago: float = 0, guid: str = "", metric: str = "cpu"
) -> pb.Record:
    """Put a sample into metricsMaster."""
    records = master.records["metricsMaster"]
    record = pb.Record(
        cursor=f"c{len(records) + 1}",
        timestamp=timestamp(time.time() - seconds_ago),
        received_at=timestamp(time.time()),
        tenant_guid=guid,
        tenant_name="acme",
        instance_name="main",
    )
    labels = {"device": "sda\x1b[2J"}
    record.fields.update({"metric": metric, "value": value, "unit": "1", "kind": "gauge", "labels": labels})
    records.append(record)
    master.announce()
    return record


def test_streams_are_listed(operator: Person, master: FakeMaster) -> None:
    """Each stream with its size and how long it is kept."""
    add_metric(master, 1)
    assert [entry["name"] for entry in operator.data("stream", "list")] == ["metricsMaster", "tenantStatusHistory"]
    assert "for ever" in operator.done("stream", "list")


def test_read_selects_by_tenant_time_and_metric(operator: Person, master: FakeMaster) -> None:
    """Names of Tenants become GUIDs, relative times absolute ones; newest first unless asked otherwise."""
    guid = master.add().guid
    for number in range(5):
        add_metric(master, number, seconds_ago=3_600 * (4 - number), guid=guid)
    add_metric(master, 99, metric="memory", guid=guid)
    add_metric(master, 77)
    words = ("stream", "read", "metricsMaster", "--tenant", "acme/main", "--metric", "cpu", "--since", "-150m")
    assert [entry["fields"]["value"] for entry in operator.data(*words)] == [4, 3, 2]
    ascending = operator.data(*words, "--until", "-30m", "--order", "oldest")
    assert [entry["fields"]["value"] for entry in ascending] == [2, 3]
    shown = operator.done(*words)
    assert "METRIC" in shown
    assert r"device=sda\x1b[2J" in shown
    assert "\x1b" not in shown


def test_read_pages_up_to_the_limit(operator: Person, master: FakeMaster) -> None:
    """A limit holds over pages; 0 means all."""
    master.largest_page = 3
    for number in range(10):
        add_metric(master, number)
    assert len(operator.data("stream", "read", "metricsMaster", "--limit", "7")) == 7
    assert len(operator.data("stream", "read", "metricsMaster", "--limit", "0")) == 10


def test_read_explains_what_is_wrong(operator: Person) -> None:
    """An unknown stream and a time that is none."""
    error = operator.error("stream", "read", "nothing")
    assert (error["reason"], error["exit_code"]) == ("STREAM_NOT_FOUND", EXIT_NOT_FOUND)
    assert operator.run("stream", "read", "metricsMaster", "--since", "yesterday").exit_code == EXIT_USAGE
    assert operator.run("stream", "tail", "metricsMaster", "-n", "1", "--after", "c1").exit_code == EXIT_USAGE


def test_history_is_shown_with_its_fields(operator: Person, master: FakeMaster) -> None:
    """What is no metric shows its fields by name, several words quoted."""
    record = pb.Record(timestamp=timestamp(time.time()), tenant_name="acme", instance_name="main")
    record.fields.update({"from": "ACTIVE", "to": "ALERT", "reason": "two words"})
    master.records["tenantStatusHistory"].append(record)
    assert 'from=ACTIVE reason="two words" to=ALERT' in operator.done("stream", "read", "tenantStatusHistory")


def test_tail_goes_on_after_the_master_came_back(operator: Person, master: FakeMaster) -> None:
    """A follower reconnects by itself and misses nothing, repeats nothing; Ctrl-C ends it with 130."""
    for value in range(3):
        add_metric(master, value)
    words = ("stream", "tail", "metricsMaster", "--backlog", "2", "-o", "json")
    with operator.start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert [json.loads(process.stdout.readline())["fields"]["value"] for _ in range(2)] == [1, 2]
        master.stop()
        assert "Not following" in process.stderr.readline()
        with FakeMaster(master.identity, master.port) as returned:
            returned.records = master.records
            add_metric(returned, 3)
            assert json.loads(process.stdout.readline())["fields"]["value"] == 3
            assert returned.requests[0].after_cursor == "c3"
            process.send_signal(signal.SIGINT)
            assert process.wait(END_S) == 130
            assert "Traceback" not in process.stderr.read()


class Scripted:
    """Streams that end as the script says: with a list of messages, or with an error."""

    def __init__(self, *steps: list[int] | Exception) -> None:
        self.pauses: list[float] = []
        self._steps = iter(steps)

    def follow(self) -> Iterator[int]:
        """What a follower of these streams sees."""
        return keep_following(self._open, lambda _error, pause: self.pauses.append(pause), lambda _seconds: None)

    def _open(self) -> Iterator[int]:
        step = next(self._steps)
        if isinstance(step, Exception):
            raise step
        return iter(step)


def test_following_raises_what_will_not_pass() -> None:
    """A refusal ends a follower, after messages as well as before; a Master that is not there at first does too."""
    scripted = Scripted([1], StreamNotFound(stream="x"))
    followed = scripted.follow()
    assert next(followed) == 1
    with pytest.raises(StreamNotFound):
        next(followed)
    assert len(scripted.pauses) == 1
    for first in (MasterStopping(), NotSignedIn(), MasterUnreachable("", "")):
        with pytest.raises(type(first)):
            next(Scripted(first).follow())


def test_pauses_grow_and_begin_anew_after_a_message() -> None:
    """Back-off doubles up to five seconds with jitter, and a message resets it."""
    scripted = Scripted([1], *[MasterUnreachable("", "")] * 6, [2], CallRefused("", "", 6, {}))
    followed = scripted.follow()
    assert [next(followed), next(followed)] == [1, 2]
    with pytest.raises(CallRefused):
        next(followed)
    bounds = [0.5, 1, 2, 4, 5, 5, 5, 0.5]
    assert all(bound / 2 <= pause <= bound for pause, bound in zip(scripted.pauses, bounds, strict=True))


def test_gaps_are_shown_for_a_tenant(operator: Person, master: FakeMaster) -> None:
    """The ledger names what is missing and why."""
    guid = master.add().guid
    for owner in (guid, "other"):
        master.gaps.append(
            pb.Gap(
                tenant_guid=owner, tenant_name="acme", instance_name="main", stream=link_pb.TENANT_STREAM_METRICS,
                epoch="ab" * 16, first_seq=5, last_seq=1_009, reason=link_pb.LOSS_REASON_SPOOL_FULL, detail="full",
                declared_at=timestamp(time.time()),
            )
        )  # fmt: skip
    [gap] = operator.data("gaps", "--tenant", "acme")
    assert (gap["reason"], gap["stream"], gap["last_seq"]) == ("SPOOL_FULL", "METRICS", 1_009)
    shown = operator.done("gaps")
    assert "5 to 1,009" in shown
    assert "spool full" in shown
    assert len(shown.splitlines()) == 3


def test_authorities_are_replaced_step_by_step(operator: Person, master: FakeMaster) -> None:
    """prepare, activate, retire; a wrong step is refused with the exit code of a wrong state."""
    assert "issuing" in operator.done("ca", "list")
    assert operator.data("ca", "prepare")["state"] == "PREPARED"
    operator.done("ca", "activate", "a2")
    assert operator.run("ca", "activate", "a2").exit_code == EXIT_WRONG_STATE
    assert operator.run("ca", "activate", "a9").exit_code == EXIT_NOT_FOUND
    assert operator.run("ca", "retire", "a1").exit_code == EXIT_USAGE
    operator.done("ca", "retire", "a1", "--yes", "--force")
    assert master.requests[-1].force
    assert master.authorities[1].state == authority_pb.AUTHORITY_STATE_RETIRED


def test_watch_prints_json_lines_until_interrupted(operator: Person, master: FakeMaster) -> None:
    """Where no terminal is, each change is a line at once."""
    tenant = master.add()
    with operator.start("tenant", "watch", "-o", "json", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["tenant"]["guid"] == tenant.guid
        assert json.loads(process.stdout.readline()) == {"synchronised": True}
        master.tenants.clear()
        threading.Thread(target=master.announce).start()
        assert json.loads(process.stdout.readline()) == {"gone": tenant.guid}
        process.send_signal(signal.SIGINT)
        assert process.wait(END_S) == 130

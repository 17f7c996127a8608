"""The audit in a real syslog server: rsyslog understands every message as it was sent, whole and in order, by each way."""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tenantry.cli.commands.audit_chain import ExportedLink
from tenantry.cli.commands.audit_syslog import format_message, open_syslog
from tenantry.cli.profiles import Profile, Profiles, changing_profiles
from tenantry.master.domain.records import NewRecord, StreamName
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.sql.database import Database
from tenantry.protocol.audit_chain import canonical_fields, canonical_record
from tenantry.protocol.syslog import DEFAULT_SIZE, SD_ID
from tests.servers import rsyslog
from tests.servers.master import PROGRAM, TRUST_DOMAIN, MasterProcess, initialise
from tests.servers.rsyslog import Rsyslog, running_rsyslog

WAYS = ("tcp", "tls", "udp")
NOW = 1_700_000_000_123
HOST = "master.example.org"
HOSTILE = (
    "plain",
    'a "quoted" [name] with \\ and \\" and \\]',
    'closed"] [forged@32473 actor="root"] ',
    "two\nlines\r\n<34>1 2026-01-01T00:00:00Z forged su - - - yes",
    "nul \x00, tab \t, escape \x1b[2J, delete \x7f, next line \x85",
    "separators \u2028 and \u2029",
    "zażółć gęślą jaźń 漢字 🐎 𝕏 e\u0301",
    "\ufeffbegins with a BOM",
    "%d %s $msg #012 #000 {{x}}",
    "ends with a backslash\\",
    "12 34",
    "]",
    '"',
    " ",
)
LOST_TO_STRUCTURE = {ord(one): "\ufffd" for one in "\n\r\t\x00\x1b\x7f\x85\u2028\u2029"}
"""Structured data has no escape for these; the text holds them."""


@pytest.fixture(scope="module")
def program() -> Path:
    """The daemon of rsyslog."""
    found = rsyslog.find_program()
    if found is None:
        pytest.skip(f"no rsyslog with TLS ({' '.join(rsyslog.PACKAGES)}), and `make programs` could not install it")
    return found


@pytest.fixture(scope="module")
def server(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rsyslog]:
    """One as Debian configures it: messages of 8 KiB, the system's buffer for datagrams."""
    with running_rsyslog(program, tmp_path_factory.mktemp("syslog") / "rsyslog") as running:
        yield running


def links_of(texts: Sequence[str], first: int = 1) -> list[ExportedLink]:
    """Records whose actor and a fact are these texts."""
    links = []
    for number, text in enumerate(texts, first):
        fields = canonical_fields({"actor": text, "action": "tenant.edit", "outcome": "done", "fact": text})
        record = canonical_record(fields, NOW, bytes(16), number, None, NOW)
        links.append(ExportedLink(number, bytes(32), number.to_bytes(32, "big"), record))
    return links


def send(server: Rsyslog, way: str, links: Sequence[ExportedLink], size: int = DEFAULT_SIZE) -> None:
    """As the command does."""
    with open_syslog(server.address(way), server.ca if way == "tls" else None) as sending:
        for link in links:
            sending(format_message(link, HOST, size))


def parameters_of(message: dict[str, Any]) -> dict[str, str]:
    """The structured data, as rsyslog took it apart."""
    elements = message["rfc5424-sd"]
    assert set(elements) == {SD_ID}, "nobody forged an element"
    found: dict[str, str] = elements[SD_ID]
    return found


def check_whole(message: dict[str, Any], link: ExportedLink) -> None:
    """A message must be this record, in every part."""
    record = json.loads(link.record)
    assert json.loads(message["text"].removeprefix("\ufeff")) == record
    assert (message["host"], message["program"], message["kind"]) == (HOST, "tenantry-master", "audit")
    assert (message["priority"], message["moment"]) == ("109", "2023-11-14T22:13:20.123Z")
    wanted = {"sequence": str(link.sequence), "hash": link.hash.hex(), "previous": link.previous.hex()}
    wanted |= {name: record["fields"][name].translate(LOST_TO_STRUCTURE) for name in ("actor", "action", "outcome")}
    assert parameters_of(message) == wanted


async def test_hostile_texts_arrive_whole_and_in_order_by_every_way(server: Rsyslog) -> None:
    """Quotes, brackets, line ends, control characters, whatever looks like a message: each record is one message, as it was."""
    count = len(server.got())
    for way in WAYS:
        links = links_of(HOSTILE * 3)
        await asyncio.to_thread(send, server, way, links)
        count += len(links)
        got = (await server.received(count))[count - len(links) :]
        for message, link in zip(got, links, strict=True):
            check_whole(message, link)
            assert message["way"] == way


async def test_what_is_too_long_for_the_server_is_cut_and_nothing_of_it_becomes_a_message(server: Rsyslog) -> None:
    """A record of which the 8,193rd byte begins a forged message: one message arrives, which says that it was cut."""
    count = len(server.got())
    forged = "<34>1 2026-01-01T00:00:00Z forged su - - - granted "
    for way in WAYS:
        (link,) = links_of(["x"])
        room = DEFAULT_SIZE - len(format_message(link, HOST))
        edge = [link_with(link, "ü" * (room // 2) + "y" * more + forged * 100) for more in range(4)]
        fits = link_with(link, "z" * (room - len(',"big":""')))
        assert len(format_message(fits, HOST)) == DEFAULT_SIZE
        sent = [*edge, fits]
        await asyncio.to_thread(send, server, way, sent)
        count += len(sent)
        got = (await server.received(count))[count - len(sent) :]
        assert [parameters_of(one).get("cut") for one in got] == [*(str(len(one.record)) for one in edge), None]
        assert json.loads(got[-1]["text"].removeprefix("\ufeff")) == json.loads(fits.record)
        for message, one in zip(got, edge, strict=False):
            assert parameters_of(message)["hash"] == one.hash.hex()
            assert one.record.decode().startswith(message["text"].removeprefix("\ufeff"))


def link_with(link: ExportedLink, text: str) -> ExportedLink:
    """The same record with a long fact."""
    record = json.loads(link.record)
    fields = canonical_fields(record["fields"] | {"big": text})
    return link._replace(record=canonical_record(fields, NOW, bytes(16), link.sequence, None, NOW))


async def test_an_audit_arrives_whole_from_the_real_programs(program: Path, tmp_path: Path, *, long_form: bool) -> None:
    """`tenantry audit export`: every record of the chain once, in order, as the chain has it, long ones included."""
    count, ways = (6_000, WAYS) if long_form else (100, ("tls",))
    data = tmp_path / "master"
    token = initialise(data)
    fill(data, count)
    master = MasterProcess(data, token)
    try:
        await asyncio.to_thread(master.start)
        sign_in(tmp_path, master)
        chain = tmp_path / "chain.jsonl"
        await export(tmp_path, "--file", str(chain))
        links = [json.loads(line) for line in chain.read_text().splitlines()]
        assert len(links) > count
        until = ("--until", str(links[-1]["sequence"]))
        with running_rsyslog(program, tmp_path / "rsyslog", most="64k") as server:
            before = 0
            for way in ways:
                more = ("--syslog-ca", str(server.ca)) if way == "tls" else ()
                await export(tmp_path, "--syslog", server.address(way), *more, "--syslog-size", "60000", *until)
                got = (await server.received(before + len(links)))[before:]
                before += len(links)
                for message, link in zip(got, links, strict=True):
                    assert json.loads(message["text"].removeprefix("\ufeff")) == json.loads(link["record"])
                    found = parameters_of(message)
                    assert (found["sequence"], found["hash"]) == (str(link["sequence"]), link["hash"])
                    assert "cut" not in found
    finally:
        master.stop()


def sign_in(folder: Path, master: MasterProcess) -> None:
    """A profile for the command line."""
    with changing_profiles(folder / "profiles.yaml") as held:
        lab = Profile(master.api_address, TRUST_DOMAIN, master.root.decode(), master.token)
        held[0] = Profiles("lab", {"lab": lab})


def fill(data: Path, count: int) -> None:
    """Hostile records in the chain, one in ten of them long."""
    records: list[NewRecord] = [
        journal.audit(
            Actor("operator", HOSTILE[number % len(HOSTILE)]),
            "test",
            NOW,
            note=HOSTILE[number % len(HOSTILE)] * (900 if number % 10 == 0 else 1),
        )
        for number in range(count)
    ]
    assert {record.stream for record in records} == {StreamName.AUDIT_MESSAGES}
    with Database.open(f"sqlite:///{data / 'master.db'}") as database, database.write() as transaction:
        transaction.records.append(records)


async def export(folder: Path, *words: str) -> None:
    """The command, to its end."""
    done = await asyncio.to_thread(
        subprocess.run,
        [str(PROGRAM.with_name("tenantry")), "audit", "export", *words],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "TENANTRY_PROFILES": str(folder / "profiles.yaml")},
    )
    assert done.returncode == 0, done.stderr

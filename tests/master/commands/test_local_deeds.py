"""What is done on the machine and not over the API stands in the audit as well: by commands, and by files that were changed."""

import asyncio
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from tenantry.licensing.issuers import encode_issuer
from tenantry.licensing.signing import generate_issuer
from tenantry.master.bootstrap import running_master
from tenantry.master.commands.program import execute, program
from tenantry.master.config import load
from tenantry.master.domain.records import StreamName
from tenantry.master.operations.local_deeds import DeedFolder, write_deeds
from tenantry.master.sql.database import Database
from tenantry.process.files import write_private
from tenantry.protocol.licences import LicenceKind
from tests.servers.deadlines import eventually
from tests.servers.licensing import issuer_key, issuer_key_file, licence_for

NOW_MS = 1_700_000_000_000
CHANGES_NOTHING = {
    "audit verify",
    "config check",
    "config show",
    "license issuers",
    "license request",
    "license show",
    "token list",
    "user list",
    "run",
}
"""`run` changes nothing by itself; what a running Master does is audited call by call."""


def records_of(folder: Path) -> list[dict[str, Any]]:
    """The audit of a stopped Master, oldest first."""
    with Database.open(f"sqlite:///{folder / 'master.db'}") as database, database.read() as transaction:
        state = transaction.audit.state()
        records = transaction.audit.read(0, state.tip.sequence, 10_000).records
    return [json.loads(record)["fields"] for record in records]


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """An initialised Master with an issuer and a licence."""
    path = tmp_path / "data"
    issuer = ("--issuer-key", str(issuer_key_file()), "--license-tenants", "5", "--license-days", "30")
    assert execute(["init", "--data", str(path), "--host", "127.0.0.1", *issuer]) == 0
    capsys.readouterr()
    return path


@pytest.fixture
def deeds(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> dict[str, tuple[list[str], dict[str, object]]]:
    """For each command that changes something: its words, and what its last record must say."""
    other = generate_issuer("Another issuer")
    (tmp_path / "other.json").write_text(encode_issuer(other.issuer))
    assert execute(["license", "request", "--data", str(folder)]) == 0
    fingerprint = json.loads(capsys.readouterr().out)["fingerprint"]
    licence = licence_for(fingerprint, LicenceKind.MASTER, tenants=7)
    (tmp_path / "licence").write_text(licence)
    (tmp_path / "password").touch(0o600)
    (tmp_path / "password").write_text("given back on the machine")
    assert execute(["token", "create", "--data", str(folder), "old"]) == 0
    assert execute(["token", "list", "--data", str(folder)]) == 0
    token = next(line.split()[0] for line in capsys.readouterr().out.splitlines() if line.endswith("old"))
    password = ["administrator", "--password-file", str(tmp_path / "password")]
    return {
        "backup": ([str(tmp_path / "saved")], {"action": "master.backup", "file": str(tmp_path / "saved")}),
        "token create": (["new"], {"action": "token.create", "name": "new"}),
        "token revoke": ([token], {"action": "token.revoke", "token": token}),
        "user reset-password": (password, {"action": "user.reset_password", "user": "administrator"}),
        "ca renew-intermediate": ([], {"action": "authority.renew_intermediate"}),
        "license install": ([str(tmp_path / "licence")], {"action": "licence.install", "tenants": 7}),
        "license trust": ([str(tmp_path / "other.json")], {"action": "issuer.trust", "key": other.issuer.kid}),
        "license distrust": (
            [issuer_key().issuer.kid],
            {"action": "issuer.revoke", "key": issuer_key().issuer.kid, "name": issuer_key().issuer.name},
        ),
    }


Deeds = dict[str, tuple[list[str], dict[str, object]]]


def names_of(command: click.Command, path: str = "") -> set[str]:
    """All commands below this one."""
    if not isinstance(command, click.Group):
        return {path.strip()}
    found = (names_of(one, f"{path} {name}") for name, one in command.commands.items())
    return functools.reduce(set.union, found, set())


def test_every_command_that_changes_a_stopped_master_is_audited(folder: Path, deeds: Deeds) -> None:
    """With who did it on this machine. A new command needs a place here."""
    assert names_of(program) == {*deeds, *CHANGES_NOTHING, "init", "restore"}
    for name, (words, wanted) in deeds.items():
        before = len(records_of(folder))
        assert execute([*name.split(), *words, "--data", str(folder)]) == 0, name
        new = records_of(folder)[before:]
        assert new, name
        assert wanted.items() <= new[-1].items(), name
        assert {record["outcome"] for record in new} == {"done"}
        assert all(record["actor"].startswith("operator:local:") for record in new), name


def test_the_beginning_is_audited(folder: Path) -> None:
    """Init: the Master, its administrator, whom it trusts, its licence."""
    actions = [record["action"] for record in records_of(folder)]
    assert actions[0] == "master.init"
    assert set(actions) == {"master.init", "user.create", "role.grant", "licence.install", "issuer.trust"}


def test_who_disabled_the_administrator_is_told_that_a_token_enabled_it_again(folder: Path) -> None:
    """What a command does beside its purpose is written down too."""
    from dataclasses import replace

    with Database.open(f"sqlite:///{folder / 'master.db'}") as database, database.write() as transaction:
        user = transaction.users.by_name("administrator")
        assert user is not None
        transaction.users.save(replace(user, disabled_ms=1))
    before = len(records_of(folder))
    assert execute(["token", "create", "--data", str(folder), "back"]) == 0
    assert [record["action"] for record in records_of(folder)[before:]] == ["user.enable", "token.create"]


async def test_what_changes_in_the_files_of_a_running_master_is_audited_once(folder: Path, tmp_path: Path) -> None:
    """A command beside it, an editor, another provider in the configuration; what was noted is not noted again."""
    listen = {
        "data_dir": str(folder),
        "api_listen": "127.0.0.1:0",
        "link_listen": "127.0.0.1:0",
        "tunnels_listen": "off",
    }
    config = load(listen)
    seen = len(records_of(folder))
    other = generate_issuer("Another issuer").issuer
    (tmp_path / "other.json").write_text(encode_issuer(other))
    async with running_master(config):
        assert execute(["license", "trust", "--data", str(folder), str(tmp_path / "other.json")]) == 0
        await eventually(_logged(folder, "issuer.trust", other.kid), "a record of the issuer")
        text = config.issuers_file.read_text()
        assert execute(["license", "distrust", "--data", str(folder), other.kid]) == 0
        await eventually(_logged(folder, "issuer.revoke", other.kid), "a record of its end")
    config.issuers_file.write_text(text.replace("Another issuer", "An innocent name"))
    provider = load({**listen, "openid.issuer": "https://login.example.org"})
    async with running_master(provider):
        await eventually(_logged(folder, "openid.trust", "https://login.example.org"), "a record of the provider")
    issuers = json.loads(config.issuers_file.read_text())
    issuers["issuers"] = [one for one in issuers["issuers"] if one["name"] != "An innocent name"]
    config.issuers_file.write_text(json.dumps(issuers))
    async with running_master(config):
        await eventually(_logged(folder, "openid.remove", "https://login.example.org"), "a record of its end")
    new = [record for record in records_of(folder)[seen:] if record["action"].startswith(("issuer.", "openid."))]
    assert [(one["action"], one.get("name", one.get("issuer"))) for one in new] == [
        ("issuer.trust", "Another issuer"),
        ("issuer.revoke", "Another issuer"),
        ("issuer.trust", "An innocent name"),
        ("openid.trust", "https://login.example.org"),
        ("issuer.remove", "An innocent name"),
        ("openid.remove", "https://login.example.org"),
    ]
    assert {one["actor"] for one in new} == {"system:local files"}


def _logged(folder: Path, action: str, fact: str) -> Callable[[], bool]:
    """Whether a running Master has such a record."""
    import sqlite3
    from contextlib import closing

    def look() -> bool:
        with closing(sqlite3.connect(f"file:{folder / 'master.db'}?mode=ro", uri=True)) as store:
            rows = store.execute("SELECT fields FROM records WHERE stream = ?", (StreamName.AUDIT_MESSAGES,)).fetchall()
        return any(f'"{action}"' in fields and fact in fields for (fields,) in rows)

    return look


async def test_a_backup_of_a_running_master_is_written_down_by_that_master(folder: Path, tmp_path: Path) -> None:
    """The record is there before the copy is made, and in the copy; the chain goes on, and no note stays."""
    config = load({"data_dir": str(folder), "api_listen": "127.0.0.1:0", "link_listen": "127.0.0.1:0"})
    async with running_master(config):
        code = await asyncio.to_thread(execute, ["backup", str(tmp_path / "saved"), "--data", str(folder)])
        assert code == 0
        assert _logged(folder, "master.backup", str(tmp_path / "saved"))()
    assert list((folder / "deeds").iterdir()) == []
    assert execute(["restore", str(tmp_path / "saved"), "--data", str(tmp_path / "other")]) == 0
    for one in (folder, tmp_path / "other"):
        (record,) = [record for record in records_of(one) if record["action"] == "master.backup"]
        assert record["actor"].startswith("operator:local:")
        assert record["file"] == str(tmp_path / "saved")


async def test_what_was_done_beside_no_master_is_written_down_once_at_the_next_start(folder: Path) -> None:
    """A note that was left waits; one that was written and not removed is not written again; one that is none is told."""
    notes = DeedFolder(folder)
    taken, waiting = (
        notes.leave("ada", "master.backup", NOW_MS + number, {"file": f"f{number}"}) for number in range(2)
    )
    with Database.open(f"sqlite:///{folder / 'master.db'}") as database, database.write() as transaction:
        write_deeds(transaction, [notes.read(taken)], NOW_MS)
    write_private(folder / "deeds" / "forged.deed", b'{"user": "eve", "action": "x\\n", "done_ms": 1, "facts": {}}')
    config = load({"data_dir": str(folder), "api_listen": "127.0.0.1:0", "link_listen": "127.0.0.1:0"})
    async with running_master(config):
        await eventually(lambda: not notes.notes(), "the notes to be taken")
    found = [record for record in records_of(folder) if record["action"] in ("master.backup", "deed.unreadable")]
    assert [(one["actor"], one.get("file", one.get("note"))) for one in found] == [
        ("operator:local:ada", "f0"),
        ("operator:local:ada", "f1"),
        ("system:local files", "forged"),
    ]
    assert found[1]["request_id"] == waiting.rpartition("-")[2]

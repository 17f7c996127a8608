"""Roles, groups, whoami and can-i at the keyboard, against the program `tenantry-master`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tenantry.cli.commands.token import scope_words
from tenantry.cli.privacy_words import parse_privacy, write_privacy
from tenantry.cli.troubles import InputInvalid
from tenantry.protocol.failures import EXIT_DENIED, EXIT_NOT_FOUND, EXIT_USAGE, EXIT_WRONG_STATE
from tenantry.transport.pinning import fingerprint_of
from tenantry.v1.token_service_pb2 import TokenScope
from tests.cli.conftest import Person
from tests.cli.test_terminal import on_a_terminal
from tests.servers.master import MasterProcess, running_master


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    """A Master for all these tests."""
    with running_master(tmp_path_factory.mktemp("people"), quick=True) as running:
        yield running


@pytest.fixture
def administrator(stranger: Person, master: MasterProcess) -> Person:
    """Who may do everything."""
    return sign_in(stranger, master, master.token)


def sign_in(person: Person, master: MasterProcess, token: str) -> Person:
    """The person, signed in with a token."""
    words = ("--address", master.api_address, "--ca-fingerprint", fingerprint_of(master.root.decode()))
    person.done("login", *words, stdin=token)
    return person


@pytest.mark.slow
def test_a_role_is_given_seen_used_and_taken_away(administrator: Person, master: MasterProcess, tmp_path: Path) -> None:
    """From the first grant to the last revocation, as both sides see it."""
    for name in ("own", "other"):
        administrator.done("tenant", "create", name, "main")
    administrator.done("user", "create", "ann", "--no-password")
    assert "ann is now tier-1-analyst at own/main." in administrator.done(
        "role", "grant", "tier-1-analyst", "own", "--user", "ann"
    )
    assert "already was" in administrator.done("role", "grant", "tier-1-analyst", "own", "--user", "ann")
    ann = sign_in(
        Person(tmp_path / "ann.yaml"), master, administrator.data("token", "create", "t", "--user", "ann")["secret"]
    )
    shown = ann.data("whoami")
    assert (shown["user"], shown["session"], shown["permissions_narrowed"]) == ("ann", False, False)
    assert [(one["role"], one["tenant_name"]) for one in shown["bindings"]] == [("TIER_1_ANALYST", "own")]
    assert "tier-1-analyst at own/main" in ann.done("whoami")
    assert [one["tenant_name"] for one in ann.data("tenant", "list")] == ["own"]
    assert ann.done("can-i", "move", "own") == "yes\n"
    refused = ann.run("can-i", "edit", "own")
    assert (refused.stdout, refused.exit_code) == ("no\n", EXIT_DENIED)
    assert ann.run("can-i", "authority.write").exit_code == EXIT_DENIED
    assert ann.data("can-i", "read", "own")["permission"] == "tenant.read"
    assert ann.run("can-i", "read").exit_code == EXIT_DENIED
    assert ann.error("can-i", "write", "own")["exit_code"] == EXIT_USAGE
    foreign, missing = ann.error("can-i", "move", "other"), ann.error("can-i", "move", "nobody")
    assert foreign["exit_code"] == missing["exit_code"] == EXIT_NOT_FOUND
    assert foreign["message"].replace("other", "nobody") == missing["message"]
    listed = administrator.data("role", "list", "--user", "ann")
    assert [one["role"] for one in listed] == ["TIER_1_ANALYST"]
    assert ann.error("role", "list")["exit_code"] == EXIT_DENIED
    administrator.done("role", "revoke", "tier-1-analyst", "own", "--user", "ann", "--yes")
    assert ann.error("tenant", "list")["exit_code"] == EXIT_DENIED
    assert "Not held by" in administrator.done("role", "revoke", "tier-1-analyst", "own", "--user", "ann", "--yes")


@pytest.mark.slow
def test_each_command_needs_only_the_right_that_it_is_about(
    administrator: Person, master: MasterProcess, tmp_path: Path
) -> None:
    """With tenant.read at one Tenant one lists, shows and watches it, with stream.read one lists and reads its streams, each as a
    table and as JSON; nothing of another Tenant is there.
    """
    guids = {
        name: administrator.data("tenant", "create", name, "main")["tenant"]["guid"] for name in ("mine", "theirs")
    }

    def narrowed(name: str, permission: str) -> Person:
        words = ("token", "create", name, "--permission", permission, "--owner", guids["mine"])
        return sign_in(Person(tmp_path / f"{name}.yaml"), master, administrator.data(*words)["secret"])

    looker, reader = narrowed("looker", "tenant.read"), narrowed("reader", "stream.read")
    assert "mine" in looker.done("tenant", "list") and "theirs" not in looker.done("tenant", "list")
    assert [one["guid"] for one in looker.data("tenant", "list")] == [guids["mine"]]
    for reference in ("mine", guids["mine"], guids["mine"][:8]):
        assert guids["mine"] in looker.done("tenant", "show", reference)
    assert looker.error("tenant", "show", "theirs")["exit_code"] == EXIT_NOT_FOUND
    with on_a_terminal(looker, "tenant", "watch") as terminal:
        terminal.wait_for("mine.*Unregistered")
    assert "notifications" in reader.done("stream", "list")
    for words in (("alerts",), ("alerts", "--tenant", guids["mine"]), ("metricsMaster", "--tenant", guids["mine"])):
        assert reader.data("stream", "read", *words) == [], words
        reader.done("stream", "read", *words)
        reader.done("gaps", *words[1:])
    for guid in (guids["theirs"], "00000000-0000-4000-8000-000000000000"):
        assert reader.data("stream", "read", "alerts", "--tenant", guid) == []
        assert looker.error("stream", "read", "alerts", "--tenant", guid)["exit_code"] == EXIT_NOT_FOUND
    assert looker.error("stream", "list")["exit_code"] == reader.error("tenant", "list")["exit_code"] == EXIT_DENIED


@pytest.mark.slow
def test_a_new_person_introduces_himself(administrator: Person, master: MasterProcess, tmp_path: Path) -> None:
    """To the administrator of a Tenant, who then gives the first role there."""
    administrator.done("tenant", "create", "site", "main")

    def person(name: str) -> Person:
        administrator.done("user", "create", name, "--no-password")
        token = administrator.data("token", "create", "t", "--user", name)["secret"]
        return sign_in(Person(tmp_path / f"{name}.yaml"), master, token)

    chief, flora = person("chief"), person("flora")
    administrator.done("role", "grant", "tenant-administrator", "site", "--user", "chief")
    words = ("role", "grant", "junior-analyst", "site", "--user", "flora")
    assert chief.error(*words)["reason"] == "USER_NOT_FOUND"
    introduction = flora.done("role", "introduce")
    assert chief.error(*words, "--introduced", stdin="tni_something-else\n")["reason"] == "USER_NOT_FOUND"
    assert "flora is now junior-analyst" in chief.done(*words, "--introduced", stdin=introduction)
    assert [one["tenant_name"] for one in flora.data("tenant", "list")] == ["site"]


@pytest.mark.slow
def test_a_group_gives_its_roles_to_its_members(administrator: Person) -> None:
    """Groups are made, filled, given a role, emptied and erased."""
    administrator.done("tenant", "create", "grouped", "main")
    administrator.done("user", "create", "ben", "--no-password")
    assert "Made the group night shift" in administrator.done("group", "create", "night shift", "--description", "d")
    assert administrator.error("group", "create", "night shift")["reason"] == "GROUP_NAME_TAKEN"
    administrator.done("group", "add", "night shift", "ben")
    administrator.done("role", "grant", "junior-analyst", "grouped", "--group", "night shift")
    (shown,) = administrator.data("group", "list")
    assert [one["user"] for one in shown["members"]] == ["ben"]
    assert administrator.error("group", "add", "night shift", "carl")["reason"] == "USER_NOT_FOUND"
    assert "nobody" in administrator.done("group", "remove", "night shift", "ben")
    administrator.done("group", "delete", "night shift", "--yes")
    assert administrator.data("role", "list", "--owner", "grouped") == []


@pytest.mark.slow
def test_somebody_stays_who_may_do_everything(administrator: Person) -> None:
    """The last general administrator keeps the role; it is held at the main tenant alone."""
    words = ("general-administrator", "main", "--user", "administrator")
    assert administrator.error("role", "revoke", *words, "--yes")["exit_code"] == EXIT_WRONG_STATE
    administrator.done("tenant", "create", "alone", "main")
    words = ("general-administrator", "alone", "--user", "administrator")
    assert administrator.error("role", "grant", *words)["exit_code"] == EXIT_USAGE
    assert administrator.error("role", "grant", "junior-analyst", "main")["exit_code"] == EXIT_USAGE


@pytest.mark.slow
def test_a_private_tenant_is_seen_by_its_keeper_alone(
    administrator: Person, master: MasterProcess, tmp_path: Path
) -> None:
    """Who makes a Tenant private still sees it; an equal at the same Tenant is told that there is none."""
    administrator.done("tenant", "create", "kept", "main")
    people = []
    for name in ("dora", "emil"):
        administrator.done("user", "create", name, "--no-password")
        administrator.done("role", "grant", "tenant-administrator", "kept", "--user", name)
        secret = administrator.data("token", "create", "t", "--user", name)["secret"]
        people.append(sign_in(Person(tmp_path / f"{name}.yaml"), master, secret))
    dora, emil = people
    assert dora.data("tenant", "show", "kept")["privacy"] is None
    dora.done("tenant", "edit", "kept", "--privacy", "private")
    assert "private" in dora.done("tenant", "show", "kept")
    assert emil.error("tenant", "show", "kept")["exit_code"] == EXIT_NOT_FOUND
    assert emil.data("tenant", "list") == []
    administrator.done("tenant", "edit", "kept", "--privacy", "public")
    assert emil.data("tenant", "show", "kept")["privacy"]["kind"] == "PUBLIC"
    assert emil.error("tenant", "edit", "kept", "--description", "x")["exit_code"] == EXIT_DENIED
    dora.done("tenant", "edit", "kept", "--privacy", "shared:tenant-administrator=edit")
    emil.done("tenant", "edit", "kept", "--description", "x")
    dora.done("tenant", "edit", "kept", "--privacy", "open")
    assert emil.data("tenant", "show", "kept")["privacy"] is None


@pytest.mark.parametrize(
    "text",
    [
        "open",
        "private",
        "public",
        "public:edit",
        "public:edit,delete",
        "shared:junior-analyst",
        "shared:tier-1-analyst=edit+delete",
    ],
)
def test_privacy_is_written_as_it_is_read(text: str) -> None:
    """The words come back as they were typed."""
    assert write_privacy(parse_privacy(text)) == text


@pytest.mark.parametrize(
    "text", ["", "secret", "private:edit", "public:fly", "shared", "shared:nobody", "shared:junior-analyst="]
)
def test_wrong_words_of_privacy_are_explained(text: str) -> None:
    """What is no privacy is said to be none."""
    with pytest.raises(InputInvalid):
        parse_privacy(text)


@pytest.mark.slow
def test_settings_are_copied_from_tenant_to_tenant(administrator: Person, tmp_path: Path) -> None:
    """What is exported of one is at the other afterwards, but for the names; a second import changes nothing."""
    for name in ("source", "target"):
        administrator.done("tenant", "create", name, "main")
    words = ("--tag", "a", "--recipient", "a@example.org", "--probe-interval", "cpu=30s", "--privacy", "public:edit")
    administrator.done("tenant", "edit", "source", "--description", "d", *words)
    file = tmp_path / "settings.yaml"
    file.write_text(administrator.done("tenant", "export", "source"))
    copied = administrator.data("tenant", "import", "target", "--file", str(file))
    original = administrator.data("tenant", "show", "source")
    assert (copied["tenant_name"], copied["description"], copied["tags"]) == ("target", "d", ["a"])
    assert copied["privacy"] == original["privacy"]
    assert copied["configuration"]["probe_intervals"] == {"cpu": "30s"}
    assert "Nothing to change" in administrator.done("tenant", "import", "target", "--file", str(file))
    file.write_text("privacy: nobody's")
    assert administrator.error("tenant", "import", "target", "--file", str(file))["exit_code"] == EXIT_USAGE


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        (TokenScope(), "all"),
        (TokenScope(permissions_narrowed=True), "no right"),
        (TokenScope(owners_narrowed=True), "nowhere"),
        (TokenScope(permissions=["tenant.read"], permissions_narrowed=True), "tenant.read"),
        (TokenScope(permissions=["tenant.read"], owners_narrowed=True), "tenant.read nowhere"),
    ],
)
def test_what_a_token_is_narrowed_to_is_said_in_words(scope: TokenScope, said: str) -> None:
    """Narrowed to nothing is never shown as all."""
    assert scope_words(scope) == said

"""Signing in through a real OpenID provider: the command line, the Master, the provider and a browser, each a program of its own."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc.aio
import pytest

from tenantry.master.operations.audit_calls import REFUSALS_PER_MINUTE
from tenantry.protocol.failures import EXIT_DENIED, EXIT_WRONG_STATE
from tenantry.transport.pinning import fingerprint_of
from tenantry.v1 import access_pb2 as access_pb
from tenantry.v1 import group_service_pb2 as groups_pb
from tenantry.v1 import role_service_pb2 as roles_pb
from tenantry.v1.group_service_pb2_grpc import GroupServiceStub
from tenantry.v1.role_service_pb2_grpc import RoleServiceStub
from tests.servers.master import MasterProcess, running_master
from tests.servers.node import find_node
from tests.servers.openid_provider import OpenIdServer, running_openid_server
from tests.servers.operating import read_records

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = Path(sys.executable).with_name("tenantry")
END_S = 90.0
BROWSER = """#!{python}
import sys
sys.path.insert(0, {repository!r})
import httpx2
from tests.servers.openid_provider import OpenIdServer
back = OpenIdServer({issuer!r}, sys.stdin).sign_in(sys.argv[1], {account!r})
sys.exit(httpx2.get(back).status_code != 200)
"""


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenIdServer]:
    """A provider where ada belongs to the administrators."""
    node = find_node()
    assert node is not None, "the environment has no Node"
    with running_openid_server(node, tmp_path_factory.mktemp("provider"), {"ada": ["tenantry-admins"]}) as running:
        yield running


@pytest.fixture(scope="module")
def master(provider: OpenIdServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    """A Master whose people sign in there; the provider's administrators administer it."""
    settings = (f"openid.issuer={provider.issuer}", "openid.scopes=openid profile email groups")
    with running_master(tmp_path_factory.mktemp("master"), *settings) as running:
        asyncio.run(_admit_administrators(running))
        yield running


async def _admit_administrators(master: MasterProcess) -> None:
    async with master.api_channel() as channel:
        group = groups_pb.Group(name="administrators", external="tenantry-admins")
        request = groups_pb.CreateGroupRequest(group=group)
        await GroupServiceStub(channel).CreateGroup(request, metadata=master.metadata)
        await RoleServiceStub(channel).GrantRole(
            roles_pb.GrantRoleRequest(
                owner="main",
                subject=roles_pb.Subject(group="administrators"),
                role=access_pb.ROLE_GENERAL_ADMINISTRATOR,
            ),
            metadata=master.metadata,
        )


def tenantry(folder: Path, *words: str, browser: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line as a person with profiles of their own."""
    environment = {**os.environ, "TENANTRY_PROFILES": str(folder / "profiles.yaml")}
    environment["BROWSER"] = "false" if browser is None else f"{browser} %s"
    return subprocess.run(
        [PROGRAM, *words, "--output", "json"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=END_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def browser_of(folder: Path, provider: OpenIdServer, account: str) -> Path:
    """A program that does what a browser and its user do."""
    path = folder / "browser"
    path.write_text(
        BROWSER.format(python=sys.executable, repository=str(REPOSITORY), issuer=provider.issuer, account=account)
    )
    path.chmod(0o755)
    return path


def login(
    folder: Path, master: MasterProcess, *words: str, browser: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """`tenantry login` with these words."""
    where = ("--address", master.api_address, "--ca-fingerprint", fingerprint_of(master.root.decode()))
    return tenantry(folder, "login", *where, *words, browser=browser)


def test_a_person_signs_in_with_a_browser(master: MasterProcess, provider: OpenIdServer, tmp_path: Path) -> None:
    """The session has the rights of the groups that the provider names, until the provider takes them away."""
    browser = browser_of(tmp_path, provider, "ada")
    done = login(tmp_path, master, "--openid", browser=browser)
    assert done.returncode == 0, done.stderr
    assert "ada" in json.loads(done.stdout)["caller"]
    assert tenantry(tmp_path, "tenant", "create", "acme", "by ada").returncode == 0
    password = tmp_path / "password"
    password.touch(0o600)
    password.write_text("a way past the provider")
    refused = tenantry(tmp_path, "user", "set-password", "--password-file", str(password))
    assert json.loads(refused.stderr.splitlines()[-1])["error"]["reason"] == "SIGNS_IN_AT_PROVIDER"
    provider.set_groups({"ada": []})
    try:
        assert login(tmp_path, master, "--openid", browser=browser).returncode == 0
        refused = tenantry(tmp_path, "tenant", "list")
        assert refused.returncode == EXIT_DENIED
        assert json.loads(refused.stderr.splitlines()[-1])["error"]["reason"] == "NOT_ALLOWED"
    finally:
        provider.set_groups({"ada": ["tenantry-admins"]})


def test_a_person_signs_in_with_a_browser_elsewhere(
    master: MasterProcess, provider: OpenIdServer, tmp_path: Path
) -> None:
    """The code of the device flow is typed on another machine, and the terminal goes on."""
    where = ("--address", master.api_address, "--ca-fingerprint", fingerprint_of(master.root.decode()))
    with subprocess.Popen(
        [PROGRAM, "login", *where, "--openid", "--device", "--output", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TENANTRY_PROFILES": str(tmp_path / "profiles.yaml")},
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("(or open "):
                provider.approve_device(line.removeprefix("(or open ").strip().removesuffix(")"), "ada")
                break
        out, error = process.communicate(timeout=END_S)
    assert process.returncode == 0, error
    assert "ada" in json.loads(out)["caller"]


def test_what_happened_is_audited(master: MasterProcess, provider: OpenIdServer, tmp_path: Path) -> None:
    """Who signed in and how, the user that was made, and what was refused; no code, no token."""
    assert login(tmp_path, master, "--openid", browser=browser_of(tmp_path, provider, "ada")).returncode == 0
    read = tenantry(tmp_path, "stream", "read", "auditMessages", "--limit", "200")
    assert read.returncode == 0, read.stderr
    fields = [record["fields"] for record in json.loads(read.stdout)]
    assert any(one["action"] == "session.open" and one.get("method") == "openid" for one in fields)
    assert any(one["action"] == "user.provision" and one["name"] == "ada" for one in fields)


async def test_a_secret_and_a_state_of_somebody_else_end_no_sign_in(master: MasterProcess) -> None:
    """Neither a guessed secret nor another state signs anybody in; a foreign address is refused; guesses make no audit grow."""
    from tenantry.v1 import openid_service_pb2 as pb
    from tenantry.v1.openid_service_pb2_grpc import OpenIdServiceStub

    async with master.api_channel() as channel:
        stub = OpenIdServiceStub(channel)
        begun = await stub.BeginSignIn(pb.BeginSignInRequest(redirect_uri="http://127.0.0.1:7777/callback"))
        guesses = [("guessed", begun.state)] * (REFUSALS_PER_MINUTE + 40)
        for secret, state in (*guesses, (begun.secret, "another"), (begun.secret, begun.state)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.FinishSignIn(pb.FinishSignInRequest(secret=secret, state=state, code="code"))
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.BeginSignIn(pb.BeginSignInRequest(redirect_uri="http://evil.example.org:80/"))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    audited = [dict(one.fields) for one in await read_records(master, "auditMessages")]
    refused = [one for one in audited if one["outcome"] == "refused"]
    assert any(one.get("target") == "method=openid" for one in refused)
    assert len(refused) < len(guesses) - 10, "strangers make no audit grow: what is beyond a minute's share is counted"


def test_a_master_without_a_provider_says_so(tmp_path: Path) -> None:
    """The failure says what else signs in."""
    with running_master(tmp_path / "plain") as plain:
        done = login(tmp_path, plain, "--openid")
    assert done.returncode == EXIT_WRONG_STATE
    assert json.loads(done.stderr.splitlines()[-1])["error"]["reason"] == "OPENID_NOT_OFFERED"

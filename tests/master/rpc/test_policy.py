"""Who may call what: every RPC of the contract is in the table, and nobody gets in without what it asks for."""

import secrets

import grpc
import grpc.aio
import pytest
from grpc_channelz.v1 import channelz_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from tenantry.master.domain.access import Permission
from tenantry.master.rpc.policy import POLICY, Scope
from tenantry.protocol.failures import InternalFault, NotSignedIn
from tenantry.protocol.joining import ID_BYTES, KEY_PREFIX, SECRET_BYTES, TOKEN_PREFIX, make_secret
from tests.servers.descriptors import Rpc, api_rpcs, every_rpc
from tests.servers.master import MasterProcess
from tests.servers.refusals import refused, snapshot
from tests.servers.wire_tenant import enrolled

STANDARD = (health_pb2, channelz_pb2, reflection_pb2)


def random_secret(prefix: str) -> str:
    """A secret of the right form that nobody has given out."""
    return make_secret(prefix, secrets.token_bytes(ID_BYTES + SECRET_BYTES)).text


def path_of(rpc: Rpc) -> str:
    """The name of a parameter."""
    return rpc.path


def test_every_rpc_that_can_be_served_has_an_entry_in_the_policy() -> None:
    """The contract and the standard services beside it: deny by default leaves none of them behind."""
    standard = {
        f"/{service.full_name}/{method.name}"
        for module in STANDARD
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert {rpc.path for rpc in every_rpc()} | standard <= POLICY.keys()
    known = {rpc.path for rpc in every_rpc()} | standard
    assert {path for path in POLICY if path.startswith("/tenantry.")} <= known, "entries without an RPC"


def test_every_right_opens_something() -> None:
    """A right that no call asks for would be one that the table promises and nobody keeps."""
    asked = {permission for rule in POLICY.values() for permission in rule.permissions}
    assert set(Permission) - asked == {Permission.SHARED_READ, Permission.SHARED_WRITE}, (
        "these two mean others, at the shared tenant"
    )


SIGNED_IN = [rpc for rpc in api_rpcs() if POLICY[rpc.path].scope is not Scope.ANYBODY]


def test_only_enrolment_clock_health_and_signing_in_are_open_to_anybody() -> None:
    """The short list of what a stranger may call."""
    assert {path for path, rule in POLICY.items() if rule.scope is Scope.ANYBODY} == {
        "/tenantry.v1.OpenIdService/BeginDeviceSignIn",
        "/tenantry.v1.OpenIdService/BeginSignIn",
        "/tenantry.v1.OpenIdService/FinishDeviceSignIn",
        "/tenantry.v1.OpenIdService/FinishSignIn",
        "/tenantry.v1.SessionService/SignIn",
        "/tenantry.v1.EnrolmentService/Enrol",
        "/tenantry.v1.EnrolmentService/GetServerTime",
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/List",
        "/grpc.health.v1.Health/Watch",
    }


@pytest.mark.parametrize("rpc", SIGNED_IN, ids=path_of)
async def test_f31_nothing_is_served_without_a_token_or_with_a_wrong_one(master: MasterProcess, rpc: Rpc) -> None:
    """No token, forms of tokens, an enrolment key, a token with another secret: one answer to all, and nothing changes."""
    wrong_secret = master.token[:-43] + random_secret(TOKEN_PREFIX)[-43:]
    offered = [
        None,
        "",
        "Bearer ",
        f"Basic {master.token}",
        master.token,
        f"Bearer {random_secret(TOKEN_PREFIX)}",
        f"Bearer {random_secret(KEY_PREFIX)}",
        f"Bearer {wrong_secret}",
        f"Bearer {master.token}x",
        f"Bearer {master.token.upper()}",
        "Bearer " + "x" * 4_000,
    ]
    before = snapshot(master)
    async with master.api_channel() as channel:
        for authorization in offered:
            metadata = () if authorization is None else (("authorization", authorization),)
            with refused(NotSignedIn):
                await rpc.call(channel, rpc.request(), metadata)
    assert snapshot(master) == before


async def test_f31_a_tenants_certificate_opens_no_rpc_of_the_api(master: MasterProcess) -> None:
    """A valid certificate is worth nothing on the `api` listener."""
    identity = await enrolled(master, "certificate on api")
    credentials = grpc.ssl_channel_credentials(master.root, identity.key, identity.chain)
    options = (("grpc.ssl_target_name_override", "api.tenantry.internal"),)
    async with grpc.aio.secure_channel(master.api_address, credentials, options=options) as channel:
        for rpc in SIGNED_IN:
            with refused(NotSignedIn):
                await rpc.call(channel, rpc.request())


async def test_f31_each_listener_serves_its_own_services_alone(master: MasterProcess) -> None:
    """The link's RPCs are unknown on `api`, those of `api` on the link, whatever identity is shown."""
    identity = await enrolled(master, "on the wrong listener")
    async with master.api_channel() as api, master.link_channel(identity.key, identity.chain) as link:
        for rpc in every_rpc():
            channel = api if rpc.service == "LinkService" else link
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await rpc.call(channel, rpc.request(), master.metadata)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED, rpc.path


async def test_f31_the_link_listener_lets_nobody_in_without_a_certificate(master: MasterProcess) -> None:
    """Without one the handshake fails, and a token does not help."""
    options = (("grpc.ssl_target_name_override", "link.tenantry.internal"),)
    credentials = grpc.ssl_channel_credentials(master.root)
    async with grpc.aio.secure_channel(master.link_address, credentials, options=options) as channel:
        for rpc in every_rpc():
            if rpc.service == "LinkService":
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await rpc.call(channel, rpc.request(), master.metadata, timeout=5)
                assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


@pytest.mark.parametrize(
    "rpc", [rpc for rpc in api_rpcs() if rpc.method.name != "PrepareAuthority"], ids=path_of
)  # preparing takes no facts, and would change the Master for the other tests
async def test_no_empty_request_is_an_internal_fault(master: MasterProcess, rpc: Rpc) -> None:
    """With the token, an empty request is served or refused for a reason; it never breaks the Master."""
    async with master.api_channel() as channel:
        code = None
        try:
            await rpc.call(channel, rpc.request(), master.metadata, timeout=5)
        except grpc.aio.AioRpcError as error:
            code = error.code()
    assert code is None or code.name != InternalFault.code

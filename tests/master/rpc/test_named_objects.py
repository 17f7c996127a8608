"""Where a request names something: the whole contract, field by field."""

import pytest
from google.protobuf.message import Message

from tenantry.master.operations.audit_calls import NOTHING
from tenantry.master.rpc.named_objects import MOST_GUIDS, named_in
from tenantry.master.rpc.policy import POLICY
from tenantry.v1 import rule_service_pb2, tenant_service_pb2, user_service_pb2
from tests.servers.descriptors import api_rpcs, describe, put, string_fields

GUID = "3f0c2a5e-0000-4000-8000-000000000000"
PLACES = [
    (rpc, place)
    for rpc in api_rpcs()
    for place in string_fields(rpc.method.input_type)
    if not rpc.method.client_streaming
]
TENANT_WORDS = ("guid", "owner")
SECRETS = ("password", "code", "secret", "state", "licence", "page_token")


@pytest.mark.parametrize(
    ("rpc", "place"), PLACES, ids=[f"{rpc.method.name} {describe(place)}" for rpc, place in PLACES]
)
def test_every_field_that_can_name_a_tenant_is_found(rpc, place) -> None:  # type: ignore[no-untyped-def]
    """A field of a new call is found by its name; what is a secret is never looked at."""
    request = rpc.request()
    put(request, place, GUID)
    named = named_in(request)
    if place[-1].name == "tenant" or any(word in place[-1].name for word in TENANT_WORDS):
        assert list(named.guids) == [GUID]
        assert named.total == 1
        assert GUID in named.text
    else:
        assert not named.guids
    if place[-1].name.endswith(SECRETS):
        assert named == NOTHING


def test_what_the_gate_asks_about_is_what_the_audit_names() -> None:
    """The field at which the policy looks for the Tenant or the owner is one of those that are found."""
    checked = 0
    for rpc in api_rpcs():
        rule = POLICY.get(rpc.path)
        if rule is None or not rule.field:
            continue
        request = rpc.request()
        part: Message = request
        *above, leaf = rule.field.split(".")
        for name in above:
            part = getattr(part, name)
        setattr(part, leaf, GUID)
        assert rule.name(request) == GUID
        assert list(named_in(request).guids) == [GUID]
        checked += 1
    assert checked > 10


def test_many_names_are_counted_and_few_are_read() -> None:
    """Ten thousand Tenants in a request cost what a hundred cost."""
    request = tenant_service_pb2.MoveTenantsRequest(
        tenants=[tenant_service_pb2.MoveTenantsRequest.Target(guid=f"{number}") for number in range(5_000)]
    )
    named = named_in(request)
    assert (len(named.guids), named.total) == (MOST_GUIDS, 5_000)
    assert named.text == "tenants.guid=0, tenants.guid=1, tenants.guid=2"


def test_what_is_no_tenant_is_named_too() -> None:
    """A user, and a rule, which has an owner."""
    assert named_in(user_service_pb2.DeleteUserRequest(name="ada", reason="x")).text == "name=ada"
    named = named_in(rule_service_pb2.EnableRuleRequest(id="r"))
    assert (named.text, list(named.owned)) == ("id=r", ["r"])
    assert named_in(object()) == NOTHING

"""The picture of the README."""

import re

from docs.examples.demo import TENANTS
from docs.examples.picture import PICTURE, draw

from tenantry.cli.live import TenantBoard
from tenantry.v1 import tenant_pb2, tenant_service_pb2


def test_a_board_is_drawn_as_a_picture_that_fetches_nothing() -> None:
    """Names of Tenants are in it, and no font, style or image from elsewhere."""
    board = TenantBoard("Tenants", lambda: 0)
    tenant = tenant_pb2.Tenant(
        guid="1", tenant_name="Acme", instance_name="Berlin", state=tenant_pb2.TENANT_STATE_ACTIVE
    )
    board.apply(tenant_service_pb2.WatchTenantsResponse(tenant=tenant))
    picture = draw(board)
    assert "Berlin" in picture
    assert re.findall(r"""(?:url\(|src=|href=)["']?(?!#)(\S+)""", picture) == []


def test_the_picture_shows_what_the_demo_shows() -> None:
    """The committed one was drawn from the Tenants of the demo, two of them active."""
    shown = PICTURE.read_text().replace("&#160;", " ")
    assert all(name in shown and instance in shown for name, instance in TENANTS)
    assert shown.count(">Active<") + shown.count("Active ") >= 2
    assert "url(http" not in shown

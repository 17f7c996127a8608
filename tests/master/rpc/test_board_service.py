"""Settings of the board: one set for the whole Master, which counts at once and after a restart."""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from tenantry.protocol.failures import BoardChanged, FieldInvalid
from tenantry.v1 import board_service_pb2 as boards
from tenantry.v1 import master_service_pb2, tenant_pb2
from tests.servers.deadlines import eventually
from tests.servers.master import MasterProcess, running_master
from tests.servers.operating import call, tenant_of
from tests.servers.refusals import refused
from tests.servers.wire_tenant import WireTenant, enrolled, move, open_link


async def update(master: MasterProcess, *paths: str, **fields: Any) -> boards.Board:
    """Change these fields."""
    request = boards.UpdateBoardRequest(board=boards.Board(**fields), update_mask=FieldMask(paths=paths))
    changed: boards.Board = (await call(master, "BoardService", "UpdateBoard", request)).board
    return changed


async def current(master: MasterProcess) -> boards.Board:
    """As the Master says it is."""
    found: boards.Board = (await call(master, "BoardService", "GetBoard", boards.GetBoardRequest())).board
    return found


async def test_a_threshold_counts_at_once_and_after_a_restart(tmp_path: Path) -> None:
    """A silent Tenant is nobody's worry for hours, and lost as soon as an operator says that seconds are too long."""
    with running_master(tmp_path, "stale_after=6h", "lost_after=12h", "heartbeat_interval=1s") as master:
        assert not (await current(master)).HasField("update_time")
        identity = await enrolled(master, "silent")
        async with open_link(master, identity) as link:
            await link.open(WireTenant(identity))
            await move(master, identity.guid, "Activate")
            brief = {"stale_after": Duration(seconds=2), "lost_after": Duration(seconds=3)}
            changed = await update(master, "stale_after", "lost_after", **brief)

            async def lost() -> bool:
                return (await tenant_of(master, identity.guid)).connectivity == tenant_pb2.CONNECTIVITY_LOST

            await eventually(lost, "the Tenant is lost")
        described = await call(master, "MasterService", "GetMaster", master_service_pb2.GetMasterRequest())
        assert described.lost_after == changed.lost_after == brief["lost_after"]
        master.stop()
        master.start()
        assert await current(master) == changed
        back = await update(master, "stale_after", "lost_after")
        assert (back.stale_after.seconds, back.lost_after.seconds) == (6 * 3600, 12 * 3600)
        assert (back.HasField("update_time"), back.etag != changed.etag) == (True, True)


async def test_what_consoles_are_told_is_kept_field_by_field(master: MasterProcess) -> None:
    """Only what the mask names changes."""
    before = await current(master)
    changed = await update(
        master,
        "refresh_interval",
        "display_mode",
        refresh_interval=Duration(seconds=5),
        display_mode=boards.BOARD_DISPLAY_MODE_COMPACT,
        details_template="not read",
    )
    assert (changed.refresh_interval.seconds, changed.display_mode) == (5, boards.BOARD_DISPLAY_MODE_COMPACT)
    assert (changed.details_template, changed.stale_after) == (before.details_template, before.stale_after)
    named = await update(master, "details_template", details_template="Server overview", etag=changed.etag)
    assert (named.details_template, named.refresh_interval.seconds) == ("Server overview", 5)


@pytest.mark.parametrize(
    ("paths", "fields"),
    [
        ((), {}),
        (("etag",), {"etag": ""}),
        (("stale_after",), {"stale_after": Duration(seconds=1)}),
        (("stale_after",), {"stale_after": Duration(seconds=86_401)}),
        (("lost_after",), {"lost_after": Duration(seconds=10)}),
        (("lost_after",), {"lost_after": Duration(seconds=-1)}),
        (("refresh_interval",), {"refresh_interval": Duration(seconds=3_601)}),
        (("display_mode",), {"display_mode": 77}),
        (("display_mode",), {}),
        (("details_template",), {"details_template": "x" * 201}),
        (("details_template",), {"details_template": "a\x1bb"}),
    ],
)
async def test_what_says_nothing_sensible_is_refused(
    master: MasterProcess, paths: tuple[str, ...], fields: dict[str, Any]
) -> None:
    """The settings stay as they were."""
    before = await current(master)
    with refused(FieldInvalid):
        await update(master, *paths, **fields)
    assert await current(master) == before


async def test_somebody_else_was_faster(master: MasterProcess) -> None:
    """The etag of before is refused, and says what it is now."""
    old = await current(master)
    await update(master, "details_template", details_template="theirs")
    with refused(BoardChanged):
        await update(master, "details_template", details_template="mine", etag=old.etag)
    assert (await current(master)).details_template == "theirs"

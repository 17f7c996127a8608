"""The log of refusals: enough to see what happens, and not a line for each guess."""

import asyncio

import pytest
from structlog.testing import capture_logs

from tenantry.master.rpc import refusal_lines
from tenantry.master.rpc.refusal_lines import LINES_PER_MINUTE, RefusalLines
from tests.servers.deadlines import eventually


async def test_the_rest_of_a_minute_is_one_line_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind has lines of its own; what was few has no line more; then it begins anew."""
    monkeypatch.setattr(refusal_lines, "_WINDOW_S", 0.05)
    with capture_logs() as lines:
        refused = RefusalLines()
        for number in range(1_000):
            refused.write("/SignIn", "SIGN_IN_REFUSED", request_id=str(number))
        refused.write("/GetTenant", "TENANT_NOT_FOUND", request_id="x")
        assert len(lines) == LINES_PER_MINUTE + 1
        (summary,) = await eventually(lambda: [one for one in lines if "more_times" in one], "the number of the rest")
        assert (summary["method"], summary["more_times"]) == ("/SignIn", 1_000 - LINES_PER_MINUTE)
        await asyncio.sleep(0)
        refused.write("/SignIn", "SIGN_IN_REFUSED", request_id="y")
    assert len(lines) == LINES_PER_MINUTE + 3

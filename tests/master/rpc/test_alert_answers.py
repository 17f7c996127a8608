"""What of an alert fits into an answer."""

from tenantry.master.rpc.alert_service import MAX_CHANGES_BYTES, newest_changes
from tenantry.v1 import alert_service_pb2 as pb


def test_an_alert_stays_readable_whatever_is_written_about_it() -> None:
    """Of much the newest is shown, in its order."""
    text = "x" * (MAX_CHANGES_BYTES // 3)
    changes = [pb.AlertChange(kind=text, actor=str(number)) for number in range(9)]
    assert [one.actor for one in newest_changes(changes)] == ["7", "8"]
    assert newest_changes(changes[:2]) == changes[:2]
    assert newest_changes([]) == []

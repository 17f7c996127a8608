"""The museum of the outbox's bugs: each is planted, and the check of the real fault must fail."""

from collections.abc import Iterator

import pytest

from tenantry.master.delivering import webhook
from tenantry.master.delivering.dialling import Dialler
from tests.faults.museum.outbox.bugs import BUGS, planted
from tests.faults.outbox.promises import check_rebinding, check_redirects, die_at
from tests.servers.history import PromiseBroken
from tests.servers.master import MasterProcess, running_master
from tests.servers.telling import LOOPBACK

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sick_master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    """A Master that gets one bug after the other."""
    quiet = ("compaction.interval=1d", "stale_after=6h", "lost_after=12h", "reconnect_spread=0s")
    with running_master(tmp_path_factory.mktemp("sick"), *quiet, LOOPBACK) as running:
        yield running


@pytest.mark.parametrize(
    ("bug", "point", "words"),
    [
        ("outcome_before_send", "delivery.before_attempt", "never sent"),
        ("key_per_attempt", "delivery.after_attempt", "keys of no delivery"),
        ("enqueue_outside", "outbox.enqueued", "1 firings, 0 deliveries"),
    ],
)
async def test_a_bug_of_the_outbox_is_caught(sick_master: MasterProcess, bug: str, point: str, words: str) -> None:
    """By the check that the healthy Master passes."""
    with pytest.raises(PromiseBroken, match=words):
        await die_at(sick_master, point, planted(bug))


async def test_followed_redirects_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server inside is reached."""
    monkeypatch.setattr(webhook, "_judge", webhook._judge)
    monkeypatch.setattr(webhook.WebhookSender, "send", webhook.WebhookSender.send)
    BUGS["follow_redirects"]()
    with pytest.raises(PromiseBroken, match="redirect"):
        await check_redirects()


async def test_names_that_are_asked_twice_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server inside is reached."""
    monkeypatch.setattr(Dialler, "_judged", Dialler._judged)
    BUGS["check_then_resolve"]()
    with pytest.raises(PromiseBroken, match="judged"):
        await check_rebinding()

"""Settings of the board of Tenants: when silence means something, and how a console shows it. Times are milliseconds."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from tenantry.master.domain.connectivity import Thresholds
from tenantry.protocol.failures import BoardChanged, FieldInvalid
from tenantry.protocol.names import check_text

MAX_TEMPLATE: Final = 200
_DAY_MS: Final = 86_400_000
_LEAST_STALE_MS: Final = 100
_MOST_STALE_MS: Final = _DAY_MS
_MOST_LOST_MS: Final = 7 * _DAY_MS
_MOST_REFRESH_MS: Final = 3_600_000


class DisplayMode(StrEnum):
    """What a card shows."""

    DETAILED = "detailed"
    COMPACT = "compact"


@dataclass(frozen=True, slots=True)
class Board:
    """What operators have chosen; a threshold that is None is the configuration's."""

    stale_after_ms: int | None = None
    lost_after_ms: int | None = None
    refresh_ms: int = 0
    display_mode: DisplayMode = DisplayMode.DETAILED
    details_template: str = ""
    version: int = 0
    updated_ms: int | None = None

    @property
    def etag(self) -> str:
        """Changes with each change."""
        return f"{self.version:x}"

    def thresholds(self, configured: Thresholds) -> Thresholds:
        """When a silent Tenant is stale and lost. Raises ValueError where the configuration no longer fits what was chosen."""
        stale_after_ms, lost_after_ms = self.stale_after_ms, self.lost_after_ms
        return Thresholds(
            configured.stale_after_ms if stale_after_ms is None else stale_after_ms,
            configured.lost_after_ms if lost_after_ms is None else lost_after_ms,
        )

    def changed(self, wanted: "Board", names: frozenset[str], etag: str, now_ms: int) -> "Board":
        """With the fields of these names as in ``wanted``. Raises BoardChanged."""
        if etag and etag != self.etag:
            raise BoardChanged(etag=self.etag)
        values = {name: getattr(wanted, name) for name in names}
        return replace(self, **values, version=self.version + 1, updated_ms=now_ms)


FIELDS: Final = {
    "stale_after": "stale_after_ms",
    "lost_after": "lost_after_ms",
    "refresh_interval": "refresh_ms",
    "display_mode": "display_mode",
    "details_template": "details_template",
}
"""What can be changed, as the contract names it."""


def check_board(board: Board, configured: Thresholds, heartbeat_interval_ms: int) -> None:
    """Raise FieldInvalid for settings that say nothing sensible."""
    stale_ms, lost_ms = board.stale_after_ms, board.lost_after_ms
    stale_ms = configured.stale_after_ms if stale_ms is None else stale_ms
    lost_ms = configured.lost_after_ms if lost_ms is None else lost_ms
    least_ms = max(_LEAST_STALE_MS, heartbeat_interval_ms + 1)
    _check_between("board.stale_after", stale_ms, least_ms, _MOST_STALE_MS)
    _check_between("board.lost_after", lost_ms, stale_ms + 1, _MOST_LOST_MS)
    _check_between("board.refresh_interval", board.refresh_ms, 0, _MOST_REFRESH_MS)
    check_text(board.details_template, "board.details_template", MAX_TEMPLATE)


def _check_between(field: str, value_ms: int, least_ms: int, most_ms: int) -> None:
    if not least_ms <= value_ms <= most_ms:
        expected = f"{least_ms / 1000:g} s to {most_ms / 1000:g} s"
        raise FieldInvalid(field=field, problem=f"is {value_ms / 1000:g} s", expected=expected)

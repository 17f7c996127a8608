"""The settings of the board: kept, changed, and known to who needs them at every moment."""

from collections.abc import Collection
from typing import Final

import structlog

from tenantry.master.domain.board import FIELDS, Board, check_board
from tenantry.master.domain.connectivity import Thresholds
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.sql.documents import read_board, write_board
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import FieldInvalid

_SETTING: Final = "board"

log = structlog.get_logger()


class BoardKeeper:
    """The settings as they were committed last. Lives on the event loop."""

    def __init__(self, board: Board, configured: Thresholds, heartbeat_interval_ms: int) -> None:
        """``configured`` is what counts where nobody has chosen; ``heartbeat_interval_ms`` that of new Tenants."""
        self._configured = configured
        self._heartbeat_interval_ms = heartbeat_interval_ms
        self.adopt(board)

    @property
    def board(self) -> Board:
        """As operators have chosen."""
        return self._board

    @property
    def thresholds(self) -> Thresholds:
        """When a silent Tenant is stale and lost."""
        return self._thresholds

    def adopt(self, board: Board) -> None:
        """What was committed counts from now on. A configuration that no longer fits what was chosen counts by itself."""
        self._board = board
        try:
            check_board(board, self._configured, self._heartbeat_interval_ms)
            self._thresholds = board.thresholds(self._configured)
        except FieldInvalid as failure:
            log.warning(
                "the board's thresholds do not fit the configuration, which counts instead", problem=str(failure)
            )
            self._thresholds = self._configured

    def update(
        self, transaction: Transaction, actor: Actor, wanted: Board, paths: Collection[str], etag: str, now_ms: int
    ) -> Board:
        """Keep the fields that ``paths`` name. Raises FieldInvalid, BoardChanged."""
        if not paths or any(path not in FIELDS for path in paths):
            expected = f"paths among {', '.join(FIELDS)}"
            raise FieldInvalid(field="update_mask", problem="is empty, or names something else", expected=expected)
        kept = load_board(transaction)
        board = kept.changed(wanted, frozenset(FIELDS[path] for path in paths), etag, now_ms)
        check_board(board, self._configured, self._heartbeat_interval_ms)
        transaction.settings.set(_SETTING, write_board(board))
        names = {path: getattr(board, FIELDS[path]) for path in sorted(paths)}
        transaction.records.append([journal.audit(actor, "board.update", now_ms, **names)])
        return board


def load_board(transaction: Transaction) -> Board:
    """As it is kept; what nobody has chosen is the configuration's."""
    text = transaction.settings.get(_SETTING)
    return Board() if text is None else read_board(text)

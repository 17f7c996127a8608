"""`BoardService`: the settings of the board on the wire."""

from google.protobuf.duration_pb2 import Duration

from tenantry.master.domain.board import Board, DisplayMode
from tenantry.master.operations.boards import BoardKeeper
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.rpc.callers import ACTOR, Context
from tenantry.transport.wire_values import WireEnum, from_duration, to_duration, to_timestamp
from tenantry.v1 import board_service_pb2 as pb
from tenantry.v1 import board_service_pb2_grpc

DISPLAY_MODES = WireEnum(DisplayMode, pb.BoardDisplayMode.Value, "BOARD_DISPLAY_MODE")


class BoardServicer(board_service_pb2_grpc.BoardServiceServicer):
    """Wire <-> `operations.boards`."""

    def __init__(self, keeper: BoardKeeper, committer: Committer, clocks: Clocks) -> None:
        self._keeper = keeper
        self._committer = committer
        self._clocks = clocks

    async def GetBoard(self, request: pb.GetBoardRequest, context: Context) -> pb.GetBoardResponse:
        return pb.GetBoardResponse(board=self._encode())

    async def UpdateBoard(self, request: pb.UpdateBoardRequest, context: Context) -> pb.UpdateBoardResponse:
        actor, now_ms, paths = ACTOR.get(), self._clocks.wall_ms(), tuple(request.update_mask.paths)
        wanted = _decode(request.board, paths)
        board = await self._committer.run(
            lambda transaction: self._keeper.update(transaction, actor, wanted, paths, request.board.etag, now_ms)
        )
        self._keeper.adopt(board)
        return pb.UpdateBoardResponse(board=self._encode())

    def _encode(self) -> pb.Board:
        board, thresholds = self._keeper.board, self._keeper.thresholds
        return pb.Board(
            stale_after=to_duration(thresholds.stale_after_ms),
            lost_after=to_duration(thresholds.lost_after_ms),
            refresh_interval=to_duration(board.refresh_ms),
            display_mode=DISPLAY_MODES.number(board.display_mode),
            details_template=board.details_template,
            etag=board.etag,
            update_time=None if board.updated_ms is None else to_timestamp(board.updated_ms),
        )


def _decode(message: pb.Board, paths: tuple[str, ...]) -> Board:
    mode = message.display_mode
    return Board(
        stale_after_ms=_optional(message.stale_after, message.HasField("stale_after")),
        lost_after_ms=_optional(message.lost_after, message.HasField("lost_after")),
        refresh_ms=from_duration(message.refresh_interval),
        display_mode=DISPLAY_MODES.member(mode, DisplayMode) if "display_mode" in paths else DisplayMode.DETAILED,
        details_template=message.details_template,
    )


def _optional(duration: Duration, present: bool) -> int | None:
    return from_duration(duration) if present else None

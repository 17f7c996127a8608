"""`TokenService`: bearer tokens on the wire."""

from tenantry.master.domain.access import EVERYTHING, MAIN_OWNER, Permission
from tenantry.master.domain.people import DEFAULT_TOKEN_LIFETIME_MS, Token, User
from tenantry.master.operations import tokens
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.known_people import known_user
from tenantry.master.operations.paging import decode_page_token, encode_page_token, page_size
from tenantry.master.operations.sessions import new_token_secret
from tenantry.master.rpc.callers import ACTOR, VIEWER, Context
from tenantry.master.rpc.people_messages import TokenEncoder, lifetime_ms
from tenantry.master.rpc.reading import StoreReader
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import NotAllowed, PageTokenInvalid
from tenantry.v1 import token_service_pb2 as pb
from tenantry.v1 import token_service_pb2_grpc

DEFAULT_PAGE = 100
LARGEST_PAGE = 1_000


class TokenServicer(token_service_pb2_grpc.TokenServiceServicer):
    """Wire <-> `operations.tokens`."""

    def __init__(self, committer: Committer, reader: StoreReader, encoder: TokenEncoder, clocks: Clocks) -> None:
        self._committer = committer
        self._reader = reader
        self._encoder = encoder
        self._clocks = clocks

    async def CreateToken(self, request: pb.CreateTokenRequest, context: Context) -> pb.CreateTokenResponse:
        actor, viewer, secret, now_ms = ACTOR.get(), VIEWER.get(), new_token_secret(), self._clocks.wall_ms()
        permissions, owners = self._encoder.decode_scope(request.scope, viewer)
        lifetime = lifetime_ms(request, DEFAULT_TOKEN_LIFETIME_MS)
        draft = tokens.TokenDraft(request.name, request.user, permissions, owners, lifetime)
        token, user = await self._committer.run(
            lambda transaction: tokens.create_token(transaction, actor, viewer, draft, secret, now_ms)
        )
        return pb.CreateTokenResponse(token=self._encoder.encode(token, user.name, viewer), secret=secret.text)

    async def ListTokens(self, request: pb.ListTokensRequest, context: Context) -> pb.ListTokensResponse:
        viewer, now_ms = VIEWER.get(), self._clocks.wall_ms()
        size = page_size(request.page_size, default=DEFAULT_PAGE, largest=LARGEST_PAGE)
        if request.all_users and not viewer.access.allows(Permission.USER_READ, MAIN_OWNER):
            raise NotAllowed(permission=Permission.USER_READ)
        listing = ("tokens", request.user, request.all_users, request.show_ended)
        after = _place(decode_page_token(listing, request.page_token))

        def read(transaction: Transaction) -> tuple[list[Token], dict[int, User | None]]:
            user_id: int | None = viewer.user_id
            if request.user:
                user_id = known_user(transaction, viewer, request.user).id
            elif request.all_users:
                user_id = None
            living_at_ms = None if request.show_ended else now_ms
            page = transaction.tokens.page(after, size + 1, user_id=user_id, living_at_ms=living_at_ms)
            return page, {number: transaction.users.by_id(number) for number in {token.user_id for token in page}}

        found, users = await self._reader.run(read, EVERYTHING)
        page = found[:size]
        more = encode_page_token(listing, (page[-1].created_ms, page[-1].id)) if len(found) > size else ""
        encoded = [
            self._encoder.encode(token, user.name, viewer)
            for token in page
            if (user := users[token.user_id]) is not None
        ]
        return pb.ListTokensResponse(tokens=encoded, next_page_token=more)

    async def RevokeToken(self, request: pb.RevokeTokenRequest, context: Context) -> pb.RevokeTokenResponse:
        actor, viewer, now_ms = ACTOR.get(), VIEWER.get(), self._clocks.wall_ms()
        token, user = await self._committer.run(
            lambda transaction: tokens.revoke_token(
                transaction, actor, viewer, request.id, now_ms, lock_out=request.lock_out
            )
        )
        return pb.RevokeTokenResponse(token=self._encoder.encode(token, user.name, viewer))


def _place(key: tuple[str | int, ...] | None) -> tuple[int, str]:
    match key:
        case None:
            return (0, "")
        case (int(created_ms), str(token_id)):
            return (created_ms, token_id)
        case _:
            raise PageTokenInvalid

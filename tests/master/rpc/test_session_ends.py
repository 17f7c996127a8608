"""When sessions and tokens end by themselves: a Master in this process whose clock the test turns."""

import grpc.aio
import pytest

from tenantry.master.bootstrap import running_master
from tenantry.master.commands.program import execute
from tenantry.master.config import load
from tenantry.master.domain.people import TokenKind
from tenantry.master.operations.clocks import Clocks, steady_ms, wall_ms
from tenantry.master.operations.sessions import NOTED_EVERY_MS, SessionTerms, TokenUses
from tenantry.master.sql.database import Database
from tenantry.protocol.failures import NotSignedIn, SessionEnded
from tenantry.transport.settings import client_options
from tenantry.v1 import session_service_pb2, token_service_pb2, user_service_pb2
from tests.servers.refusals import refused
from tests.servers.signing_in import PASSWORD, SERVICES

MINUTE, HOUR = 60_000, 3_600_000
ME = user_service_pb2.GetUserRequest()


class AheadBy:
    """The real clocks, and what the test adds."""

    def __init__(self) -> None:
        self.ms = 0

    @property
    def clocks(self) -> Clocks:
        """As the Master reads them."""
        return Clocks(lambda: wall_ms() + self.ms, lambda: steady_ms() + self.ms)


async def test_a_session_ends_unused_after_an_hour_and_used_after_twelve(
    tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says so, and how to sign in again; an API token goes on until its own end, and says nothing."""
    data = f"{tmp_path}/data"
    assert execute(["init", "--data", data, "--host", "127.0.0.1"]) == 0
    admin = (("authorization", f"Bearer {capsys.readouterr().out.strip()}"),)
    config = load(
        {"data_dir": data, "api_listen": "127.0.0.1:0", "link_listen": "127.0.0.1:0", "tunnels_listen": "off"}
    )
    ahead = AheadBy()
    root = next(config.pki_dir.glob("*/root.pem")).read_bytes()
    async with (
        running_master(config, ahead.clocks) as master,
        grpc.aio.secure_channel(
            master.api_address,
            grpc.ssl_channel_credentials(root),
            options=client_options("api.tenantry.internal"),
        ) as channel,
    ):
        users, sessions, tokens = (
            SERVICES[name](channel) for name in ("UserService", "SessionService", "TokenService")
        )
        made = user_service_pb2.CreateUserRequest(user=user_service_pb2.User(name="ada"), password=PASSWORD)
        await users.CreateUser(made, metadata=admin)

        async def sign_in() -> tuple[tuple[str, str], ...]:
            request = session_service_pb2.SignInRequest(name="ada", password=PASSWORD)
            return (("authorization", f"Bearer {(await sessions.SignIn(request)).token}"),)

        used, unused = await sign_in(), await sign_in()
        wanted = token_service_pb2.CreateTokenRequest(name="program")
        program = (("authorization", f"Bearer {(await tokens.CreateToken(wanted, metadata=used)).secret}"),)
        for _ in range(11):
            ahead.ms += HOUR - MINUTE
            await users.GetUser(ME, metadata=used)
        with refused(SessionEnded, cause="it was not used for too long"):
            await users.GetUser(ME, metadata=unused)
        ahead.ms += HOUR - MINUTE
        await users.GetUser(ME, metadata=used)
        ahead.ms += 15 * MINUTE
        with refused(SessionEnded, cause="its time is over"):
            await users.GetUser(ME, metadata=used)
        await users.GetUser(ME, metadata=program)
        ahead.ms += 91 * 24 * HOUR
        with refused(NotSignedIn):
            await users.GetUser(ME, metadata=program)
    with Database.open(config.dsn) as database, database.read() as transaction:
        known = {token.name: token.last_used_ms for token in transaction.tokens.all()}
    assert known["program"] is not None and known["program"] >= wall_ms() + 12 * HOUR, "when it was used is kept"


def test_use_is_written_down_once_a_minute_and_forgotten_when_it_no_longer_matters() -> None:
    """Ten thousand calls of a token are one row a minute; memory holds what was used within the idle time."""
    uses, now, rows = TokenUses(SessionTerms(idle_ms=HOUR)), 0, 0
    for second in range(3_600):
        now = second * 1_000
        for _ in range(3):
            uses.note("t", TokenKind.API, 0, now)
        if second % 60 == 0:
            rows += len(uses.take(now))
    assert rows <= HOUR // NOTED_EVERY_MS
    last = uses.take(now)
    assert uses.take(now) == {}
    uses.failed(last)
    assert uses.take(now) == last
    uses.take(now + HOUR + 1)
    with pytest.raises(SessionEnded):
        uses.note("t", TokenKind.SESSION, now, now + HOUR + 1)

"""Everything about people on the wire, put together: sign-in, users, tokens, roles, groups."""

from functools import partial
from pathlib import Path

import grpc.aio

from tenantry.master.domain.access import EVERYTHING
from tenantry.master.operations.audit_calls import CallLedger
from tenantry.master.operations.authorities import TrustKeeper
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.hashing import PasswordHashing
from tenantry.master.operations.lots import Lots
from tenantry.master.operations.openid_flows import OpenIdFlows
from tenantry.master.operations.proofs import introductions, sign_in_proofs
from tenantry.master.operations.register import TenantRegister
from tenantry.master.operations.sealing import Seal, load_key
from tenantry.master.operations.sessions import SessionTerms
from tenantry.master.operations.sign_in_limits import SignInLimits
from tenantry.master.operations.signing_in import SignInDesk
from tenantry.master.operations.veiling import Veil
from tenantry.master.operations.visibility import Visibility
from tenantry.master.rpc.group_service import GroupServicer
from tenantry.master.rpc.openid_service import OpenIdServicer
from tenantry.master.rpc.people_messages import TokenEncoder
from tenantry.master.rpc.reading import StoreReader
from tenantry.master.rpc.role_service import RoleServicer
from tenantry.master.rpc.session_service import SessionServicer
from tenantry.master.rpc.token_service import TokenServicer
from tenantry.master.rpc.user_service import UserServicer
from tenantry.v1 import (
    group_service_pb2_grpc,
    openid_service_pb2_grpc,
    role_service_pb2_grpc,
    session_service_pb2_grpc,
    token_service_pb2_grpc,
    user_service_pb2_grpc,
)


class PeopleServices:
    """`SessionService`, `OpenIdService`, `UserService`, `TokenService`, `RoleService` and `GroupService`, with what they share."""

    def __init__(
        self,
        committer: Committer,
        reader: StoreReader,
        register: TenantRegister,
        visibility: Visibility,
        keeper: TrustKeeper,
        terms: SessionTerms,
        clocks: Clocks,
        openid: OpenIdFlows,
        calls: CallLedger,
        *,
        seal_key: Path,
        trust_domain: str,
        master_name: str,
    ) -> None:
        """``seal_key``: the file that opens the secrets of second factors, made where there is none. Raises as `load_seal`."""
        secret = load_key(seal_key)
        self._hashing = PasswordHashing()
        desk = SignInDesk(
            committer,
            partial(reader.run, sight=EVERYTHING),
            self._hashing,
            SignInLimits(),
            Seal(secret),
            terms,
            clocks,
            sign_in_proofs(secret),
            Lots(),
            calls.count_stranger,
        )
        self._sessions = SessionServicer(desk, committer, clocks)
        self._openid = OpenIdServicer(openid)
        self._users = UserServicer(
            committer, reader, desk, keeper, clocks, trust_domain=trust_domain, master_name=master_name
        )
        self._roles = RoleServicer(committer, reader, register, visibility, introductions(secret), Veil(secret), clocks)
        self._groups = GroupServicer(committer, reader, clocks)
        self._tokens = TokenServicer(committer, reader, TokenEncoder(register, visibility), clocks)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Serve them there."""
        session_service_pb2_grpc.add_SessionServiceServicer_to_server(self._sessions, server)
        openid_service_pb2_grpc.add_OpenIdServiceServicer_to_server(self._openid, server)
        user_service_pb2_grpc.add_UserServiceServicer_to_server(self._users, server)
        token_service_pb2_grpc.add_TokenServiceServicer_to_server(self._tokens, server)
        role_service_pb2_grpc.add_RoleServiceServicer_to_server(self._roles, server)
        group_service_pb2_grpc.add_GroupServiceServicer_to_server(self._groups, server)

    def close(self) -> None:
        """End the threads that hash passwords."""
        self._hashing.close()

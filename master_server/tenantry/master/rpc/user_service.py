"""`UserService`: users on the wire."""

from tenantry.master.domain.access import EVERYTHING, MAIN_OWNER, Permission
from tenantry.master.domain.passwords import check_password
from tenantry.master.domain.people import (
    DEFAULT_MACHINE_LIFETIME_MS,
    MAX_MACHINE_LIFETIME_MS,
    MIN_MACHINE_LIFETIME_MS,
    MachineCertificate,
    User,
    check_lifetime,
    fold_user_name,
)
from tenantry.master.operations import machines, second_factors, users
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.authorities import TrustKeeper
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.known_people import known_user, known_users
from tenantry.master.operations.paging import decode_page_token, encode_page_token, page_size
from tenantry.master.operations.second_factors import CodeUse
from tenantry.master.operations.signing_in import SignInDesk
from tenantry.master.operations.viewers import Viewer
from tenantry.master.pki.issuing import issue_machine_certificate
from tenantry.master.rpc.callers import ACTOR, VIEWER, Context
from tenantry.master.rpc.people_messages import decode_user, encode_certificate, encode_user, lifetime_ms
from tenantry.master.rpc.reading import StoreReader
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import (
    NotAllowed,
    NotAMachine,
    SecondFactorInForce,
    SecondFactorNotEnrolled,
    SignsInAtProvider,
    UserChanged,
)
from tenantry.v1 import user_service_pb2 as pb
from tenantry.v1 import user_service_pb2_grpc

DEFAULT_PAGE = 100
LARGEST_PAGE = 1_000


class UserServicer(user_service_pb2_grpc.UserServiceServicer):
    """Wire <-> `operations.users` and `operations.machines`."""

    def __init__(
        self,
        committer: Committer,
        reader: StoreReader,
        desk: SignInDesk,
        keeper: TrustKeeper,
        clocks: Clocks,
        *,
        trust_domain: str,
        master_name: str,
    ) -> None:
        """``master_name`` tells this Master's entry in an authenticator from those of others."""
        self._committer = committer
        self._reader = reader
        self._desk = desk
        self._keeper = keeper
        self._clocks = clocks
        self._trust_domain = trust_domain
        self._master_name = master_name

    async def CreateUser(self, request: pb.CreateUserRequest, context: Context) -> pb.CreateUserResponse:
        actor, now_ms, draft = ACTOR.get(), self._clocks.wall_ms(), decode_user(request.user)
        password = None
        if request.password:
            if draft.machine:
                raise NotAMachine(user=draft.name, wanted="a password")
            password = check_password(request.password, draft.name.strip())
            password = await self._desk.hash(password, draft.name, draft.display_name, draft.email)
        user = await self._committer.run(
            lambda transaction: users.create_user(transaction, actor, draft, password, now_ms)
        )
        return pb.CreateUserResponse(user=encode_user(user))

    async def GetUser(self, request: pb.GetUserRequest, context: Context) -> pb.GetUserResponse:
        viewer = VIEWER.get()
        name = request.name or viewer.user_name
        user = await self._reader.run(lambda transaction: known_user(transaction, viewer, name), EVERYTHING)
        return pb.GetUserResponse(user=encode_user(user))

    async def ListUsers(self, request: pb.ListUsersRequest, context: Context) -> pb.ListUsersResponse:
        size = page_size(request.page_size, default=DEFAULT_PAGE, largest=LARGEST_PAGE)
        viewer, after = VIEWER.get(), decode_page_token("users", request.page_token)

        def read(transaction: Transaction) -> tuple[list[User], int]:
            known = known_users(transaction, viewer)
            page = transaction.users.page(str(after[0]) if after else "", size + 1, known)
            return list(page), transaction.users.count(known)

        found, total = await self._reader.run(read, EVERYTHING)
        page = found[:size]
        more = encode_page_token("users", (page[-1].name,)) if len(found) > size else ""
        return pb.ListUsersResponse(users=map(encode_user, page), next_page_token=more, total_size=total)

    async def UpdateUser(self, request: pb.UpdateUserRequest, context: Context) -> pb.UpdateUserResponse:
        actor, viewer, now_ms = ACTOR.get(), VIEWER.get(), self._clocks.wall_ms()
        draft, paths, etag = decode_user(request.user), tuple(request.update_mask.paths), request.user.etag
        user = await self._committer.run(
            lambda transaction: users.update_user(transaction, actor, viewer, draft, paths, etag, now_ms)
        )
        return pb.UpdateUserResponse(user=encode_user(user))

    async def DisableUser(self, request: pb.DisableUserRequest, context: Context) -> pb.DisableUserResponse:
        actor, viewer, now_ms = ACTOR.get(), VIEWER.get(), self._clocks.wall_ms()
        user = await self._committer.run(
            lambda transaction: users.disable_user(
                transaction, actor, viewer, request.name, request.etag, request.reason, now_ms
            )
        )
        return pb.DisableUserResponse(user=encode_user(user))

    async def EnableUser(self, request: pb.EnableUserRequest, context: Context) -> pb.EnableUserResponse:
        actor, viewer, now_ms = ACTOR.get(), VIEWER.get(), self._clocks.wall_ms()
        user = await self._committer.run(
            lambda transaction: users.enable_user(
                transaction, actor, viewer, request.name, request.etag, request.reason, now_ms
            )
        )
        return pb.EnableUserResponse(user=encode_user(user))

    async def DeleteUser(self, request: pb.DeleteUserRequest, context: Context) -> pb.DeleteUserResponse:
        actor, viewer, now_ms = ACTOR.get(), VIEWER.get(), self._clocks.wall_ms()
        await self._committer.run(
            lambda transaction: users.delete_user(
                transaction, actor, viewer, request.name, request.etag, request.reason, now_ms
            )
        )
        return pb.DeleteUserResponse()

    async def SetPassword(self, request: pb.SetPasswordRequest, context: Context) -> pb.SetPasswordResponse:
        actor, viewer = ACTOR.get(), VIEWER.get()
        user = await self._whom(viewer, request.name)
        password = check_password(request.password, user.name)
        if user.machine:
            raise NotAMachine(user=user.name, wanted="a password")
        own = user.id == viewer.user_id
        if own and user.password is not None:
            await self._desk.prove_password(user, request.old_password, actor, "user.set_password")
        elif own and user.issuer is not None:
            # It would outlive what the provider says of them: its groups, how strong a sign-in has to be, that they have left.
            raise SignsInAtProvider(user=user.name)
        hashed = await self._desk.hash(password, user.name, user.display_name, user.email)
        now_ms = self._clocks.wall_ms()

        def work(transaction: Transaction) -> User:
            present = users.guarded_user(transaction, viewer, user.name)
            if own and present.password != user.password:
                # The old password that was proven is not the present one any more.
                raise UserChanged(user=present.name, etag=present.etag)
            return users.set_password(transaction, actor, present, hashed, now_ms, spare=viewer.token_id if own else "")

        return pb.SetPasswordResponse(user=encode_user(await self._committer.run(work)))

    async def EnrolSecondFactor(
        self, request: pb.EnrolSecondFactorRequest, context: Context
    ) -> pb.EnrolSecondFactorResponse:
        actor, viewer = ACTOR.get(), VIEWER.get()
        user = await self._whom(viewer, "")
        if user.second_factor:
            raise SecondFactorInForce(user=user.name)
        if user.password is not None:
            await self._desk.prove_password(user, request.password, actor, "user.enrol_second_factor")
        secret, now_ms = second_factors.make_secret(), self._clocks.wall_ms()
        sealed = self._desk.seal(user.id, secret)

        def work(transaction: Transaction) -> User:
            present = users.guarded_user(transaction, viewer, user.name)
            return users.enrol_second_factor(transaction, actor, present, sealed, now_ms)

        await self._committer.run(work)
        uri = second_factors.otpauth_uri(secret, user.name, self._master_name)
        return pb.EnrolSecondFactorResponse(secret=secret, otpauth_uri=uri)

    async def ConfirmSecondFactor(
        self, request: pb.ConfirmSecondFactorRequest, context: Context
    ) -> pb.ConfirmSecondFactorResponse:
        actor, viewer = ACTOR.get(), VIEWER.get()
        user = await self._whom(viewer, "")
        if user.totp is None:
            raise SecondFactorNotEnrolled(user=user.name)
        if user.second_factor:
            raise SecondFactorInForce(user=user.name)
        codes = second_factors.make_recovery_codes()
        kept = second_factors.hash_recovery_codes(codes)

        def confirm(transaction: Transaction, present: User, _use: CodeUse, now_ms: int) -> User:
            return users.confirm_second_factor(transaction, actor, present, kept, now_ms, spare=viewer.token_id)

        action = "user.confirm_second_factor"
        await self._desk.spend_code(user, request.code, actor, action, confirm)
        return pb.ConfirmSecondFactorResponse(recovery_codes=codes)

    async def RemoveSecondFactor(
        self, request: pb.RemoveSecondFactorRequest, context: Context
    ) -> pb.RemoveSecondFactorResponse:
        actor, viewer = ACTOR.get(), VIEWER.get()
        user = await self._whom(viewer, request.name)
        if user.totp is None:
            raise SecondFactorNotEnrolled(user=user.name)
        if user.id == viewer.user_id and user.second_factor:

            def remove(transaction: Transaction, present: User, _use: CodeUse, now_ms: int) -> User:
                # Where one is required, the session that goes on would be one by a password alone.
                spare = "" if self._desk.terms.second_factor_required else viewer.token_id
                return users.remove_second_factor(transaction, actor, present, now_ms, spare=spare)

            action = "user.remove_second_factor"
            changed = await self._desk.spend_code(user, request.code, actor, action, remove)
        else:
            now_ms = self._clocks.wall_ms()
            changed = await self._committer.run(lambda transaction: _remove(transaction, actor, viewer, user, now_ms))
        return pb.RemoveSecondFactorResponse(user=encode_user(changed))

    async def IssueCertificate(
        self, request: pb.IssueCertificateRequest, context: Context
    ) -> pb.IssueCertificateResponse:
        actor, viewer, now_ms = ACTOR.get(), VIEWER.get(), self._clocks.wall_ms()
        lifetime = lifetime_ms(request, DEFAULT_MACHINE_LIFETIME_MS)
        check_lifetime(lifetime, MIN_MACHINE_LIFETIME_MS, MAX_MACHINE_LIFETIME_MS)
        user = await self._reader.run(
            lambda transaction: machines.machine_named(transaction, viewer, request.name), EVERYTHING
        )
        issued = issue_machine_certificate(
            self._keeper.trust.issuing, request.certificate_request, user.name, self._trust_domain, now_ms, lifetime
        )
        certificate = await self._committer.run(
            lambda transaction: machines.record_certificate(transaction, actor, viewer, user.name, issued, now_ms)
        )
        return pb.IssueCertificateResponse(
            certificate=encode_certificate(certificate, user), certificate_chain=issued.chain_pem.decode("ascii")
        )

    async def ListCertificates(
        self, request: pb.ListCertificatesRequest, context: Context
    ) -> pb.ListCertificatesResponse:
        def read(transaction: Transaction) -> tuple[User, list[MachineCertificate]]:
            user = users.find_user(transaction, request.name)
            return user, transaction.machine_certificates.of_user(user.id)

        user, found = await self._reader.run(read, EVERYTHING)
        return pb.ListCertificatesResponse(certificates=[encode_certificate(one, user) for one in found])

    async def RevokeCertificate(
        self, request: pb.RevokeCertificateRequest, context: Context
    ) -> pb.RevokeCertificateResponse:
        actor, viewer, now_ms = ACTOR.get(), VIEWER.get(), self._clocks.wall_ms()
        certificate, user = await self._committer.run(
            lambda transaction: machines.revoke_certificate(
                transaction, actor, viewer, request.serial, now_ms, lock_out=request.lock_out
            )
        )
        return pb.RevokeCertificateResponse(certificate=encode_certificate(certificate, user))

    async def _whom(self, viewer: Viewer, name: str) -> User:
        """The caller, or with user.write somebody else. Raises NotAllowed, UserNotFound."""
        wanted = fold_user_name(name) or viewer.user_name
        if wanted == viewer.user_name and viewer.narrowed:
            # Who sets a first password signs in with it, and is not narrowed any more.
            raise NotAllowed(permission="of a whole sign-in")
        if wanted != viewer.user_name and not viewer.access.allows(Permission.USER_WRITE, MAIN_OWNER):
            raise NotAllowed(permission=Permission.USER_WRITE)
        return await self._reader.run(lambda transaction: users.guarded_user(transaction, viewer, wanted), EVERYTHING)


def _remove(transaction: Transaction, actor: Actor, viewer: Viewer, user: User, now_ms: int) -> User:
    present = users.guarded_user(transaction, viewer, user.name)
    return users.remove_second_factor(transaction, actor, present, now_ms, spare=viewer.token_id)

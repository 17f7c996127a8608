"""Users, tokens and certificates of machines on the wire. What cannot be read raises FieldInvalid; no secret is encoded here."""

from typing import Final

from tenantry.master.domain.access import OWNER_WORDS, Permission
from tenantry.master.domain.people import MachineCertificate, Token, TokenKind, User
from tenantry.master.operations.register import TenantRegister
from tenantry.master.operations.users import UserDraft
from tenantry.master.operations.viewers import Viewer
from tenantry.master.operations.visibility import Visibility
from tenantry.protocol.failures import FieldInvalid, TenantNotFound
from tenantry.protocol.names import check_guid
from tenantry.transport.wire_values import from_duration, to_timestamp
from tenantry.v1 import token_service_pb2 as token_pb
from tenantry.v1 import user_service_pb2 as user_pb

_KINDS: Final = {
    TokenKind.API: token_pb.TOKEN_KIND_API,
    TokenKind.SESSION: token_pb.TOKEN_KIND_SESSION,
}
_OWNERS: Final = {word: owner for owner, word in OWNER_WORDS.items()}


def encode_user(user: User) -> user_pb.User:
    """A user."""
    return user_pb.User(
        name=user.name,
        display_name=user.display_name,
        email=user.email,
        machine=user.machine,
        create_time=to_timestamp(user.created_ms),
        last_sign_in_time=None if user.last_sign_in_ms is None else to_timestamp(user.last_sign_in_ms),
        disable_time=None if user.disabled_ms is None else to_timestamp(user.disabled_ms),
        has_password=user.password is not None,
        second_factor=user.second_factor,
        recovery_codes_left=len(user.recovery_codes),
        issuer=user.issuer or "",
        etag=user.etag,
    )


def decode_user(message: user_pb.User) -> UserDraft:
    """What may be said about a user; not checked yet."""
    return UserDraft(message.name, message.display_name, message.email, message.machine)


def encode_certificate(certificate: MachineCertificate, user: User) -> user_pb.MachineCertificate:
    """A certificate of a machine."""
    return user_pb.MachineCertificate(
        serial=certificate.serial,
        user=user.name,
        not_before=to_timestamp(certificate.not_before_ms),
        not_after=to_timestamp(certificate.not_after_ms),
        issue_time=to_timestamp(certificate.issued_ms),
        issued_by=certificate.issued_by,
        revoke_time=None if certificate.revoked_ms is None else to_timestamp(certificate.revoked_ms),
    )


def lifetime_ms(request: token_pb.CreateTokenRequest | user_pb.IssueCertificateRequest, default_ms: int) -> int:
    """The lifetime that is asked for, in milliseconds."""
    return from_duration(request.lifetime) if request.HasField("lifetime") else default_ms


class TokenEncoder:
    """Tokens, with owners as GUIDs and words instead of the store's numbers."""

    def __init__(self, register: TenantRegister, visibility: Visibility) -> None:
        self._register = register
        self._visibility = visibility

    def encode(self, token: Token, user_name: str, viewer: Viewer) -> token_pb.Token:
        """A token as a caller sees it. An owner that is gone, or that the caller does not see, is left out."""
        owners = token.owners or frozenset()
        words = sorted(word for owner in owners if (word := self._word(owner, viewer)) is not None)
        return token_pb.Token(
            id=token.id,
            name=token.name,
            user=user_name,
            kind=_KINDS[token.kind],
            scope=token_pb.TokenScope(
                permissions=sorted(token.permissions or ()),
                owners=words,
                permissions_narrowed=token.permissions is not None,
                owners_narrowed=token.owners is not None,
            ),
            create_time=to_timestamp(token.created_ms),
            expire_time=None if token.expires_ms is None else to_timestamp(token.expires_ms),
            last_use_time=None if token.last_used_ms is None else to_timestamp(token.last_used_ms),
            revoke_time=None if token.revoked_ms is None else to_timestamp(token.revoked_ms),
        )

    def decode_scope(
        self, scope: token_pb.TokenScope, viewer: Viewer
    ) -> tuple[frozenset[Permission] | None, frozenset[int] | None]:
        """Permissions and owners. Raises FieldInvalid, and TenantNotFound for what the caller does not see."""
        try:
            permissions = frozenset(map(Permission, scope.permissions))
        except ValueError:
            expected = ", ".join(sorted(Permission))
            raise FieldInvalid(
                field="scope.permissions", problem="holds what is no permission", expected=expected
            ) from None
        owners = frozenset(self._number(word, viewer) for word in scope.owners)
        return (
            permissions if permissions or scope.permissions_narrowed else None,
            owners if owners or scope.owners_narrowed else None,
        )

    def _number(self, word: str, viewer: Viewer) -> int:
        if word in _OWNERS:
            return _OWNERS[word]
        tenant = self._register.by_guid(check_guid(word, "scope.owners"))
        if tenant is None or not self._visibility.sees(viewer, tenant):
            raise TenantNotFound(tenant=word)
        return tenant.id

    def _word(self, owner: int, viewer: Viewer) -> str | None:
        if owner in OWNER_WORDS:
            return OWNER_WORDS[owner]
        tenant = self._register.get(owner)
        return tenant.guid if tenant is not None and self._visibility.sees(viewer, tenant) else None

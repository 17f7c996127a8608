"""role grant, introduce, revoke, list, definitions; whoami; can-i."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from tenantry.cli.commands.choices import yes_option
from tenantry.cli.completions import tenant_references, user_names
from tenantry.cli.confirmation import ask_secret, confirm
from tenantry.cli.invocation import Invocation, Noun, Verb, pass_invocation
from tenantry.cli.role_words import ROLE_WORDS, role_number, role_word
from tenantry.cli.troubles import InputInvalid

if TYPE_CHECKING:
    from tenantry.cli.connection import Master
    from tenantry.v1 import role_service_pb2 as pb

EXIT_NO: Final = 6
_PAGE: Final = 1_000
_RIGHTS_ABOUT: Final = {"main": "master", "shared": "shared"}
"""How the rights about these objects begin, where those about Tenants begin with `tenant`."""

role_argument = click.argument("role", type=click.Choice(ROLE_WORDS), metavar="ROLE")
owner_argument = click.argument("owner", metavar="OWNER", shell_complete=tenant_references)
user_option = click.option("--user", default="", metavar="NAME", shell_complete=user_names, help="Who: a user.")
group_option = click.option("--group", default="", metavar="NAME", help="Or who: a group.")


@click.group(cls=Noun)
def role() -> None:
    """Roles: who may do what where.

    A role is held by a user or a group at an OWNER: a Tenant, `main` or `shared`. What is granted or taken away counts for
    the next call. `tenantry role definitions` says what each allows.
    """


@role.command("grant")
@role_argument
@owner_argument
@user_option
@group_option
@click.option(
    "--introduced", is_flag=True, help="The user gave you what `role introduce` printed: asks for it, or reads stdin."
)
@pass_invocation
def grant_role(invocation: Invocation, role: str, owner: str, user: str, group: str, introduced: bool) -> None:
    """Give ROLE at OWNER to a user or a group. Users whom you do not know yet have to introduce themselves."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.escaping import escape
    from tenantry.cli.owners import find_owner, owner_text, subject_of, subject_text
    from tenantry.v1 import role_service_pb2

    subject = subject_of(user, group)
    introduction = ask_secret("Introduction", None).strip() if introduced else ""
    with invocation.connect() as master:
        request = role_service_pb2.GrantRoleRequest(
            owner=find_owner(master, owner), subject=subject, introduction=introduction
        )
        request.role = role_number(role)  # type: ignore[assignment]  # the enum's NewType of int
        answer = master.call(master.roles.GrantRole, request)
    said = "already was" if answer.held_before else "is now"
    where = owner_text(answer.binding)
    invocation.printer().document(
        to_plain(answer), lambda: [escape(f"{subject_text(answer.binding.subject)} {said} {role} at {where}.")]
    )


@role.command("introduce")
@pass_invocation
def introduce(invocation: Invocation) -> None:
    """Print what you hand to the administrator of a Tenant for a first role there: it says who you are, and opens nothing."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.moments import local_time, timestamp_ms
    from tenantry.v1 import role_service_pb2

    with invocation.connect() as master:
        answer = master.call(master.roles.Introduce, role_service_pb2.IntroduceRequest())
    click.echo(f"good until {local_time(timestamp_ms(answer.expire_time))}", err=True)
    invocation.printer().document(to_plain(answer), lambda: [answer.introduction])


@role.command("revoke")
@role_argument
@owner_argument
@user_option
@group_option
@yes_option
@pass_invocation
def revoke_role(invocation: Invocation, role: str, owner: str, user: str, group: str, confirmed: bool) -> None:
    """Take ROLE at OWNER away from a user or a group: the next call is refused, what is open ends."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.escaping import escape
    from tenantry.cli.owners import find_owner, subject_of, subject_text
    from tenantry.v1 import role_service_pb2

    subject = subject_of(user, group)
    who = escape(f"{subject_text(subject)}: {role} at {owner}")
    confirm(confirmed, [f"This takes away from {who}."], "Go on?")
    with invocation.connect() as master:
        request = role_service_pb2.RevokeRoleRequest(owner=find_owner(master, owner), subject=subject)
        request.role = role_number(role)  # type: ignore[assignment]  # as above
        answer = master.call(master.roles.RevokeRole, request)
    said = "Taken away from" if answer.held_before else "Not held by"
    invocation.printer().document(to_plain(answer), lambda: [f"{said} {who}."])


@role.command("list")
@click.option("--owner", default="", metavar="OWNER", shell_complete=tenant_references, help="Only those held there.")
@user_option
@group_option
@pass_invocation
def list_roles(invocation: Invocation, owner: str, user: str, group: str) -> None:
    """Roles that are held, oldest first, where you may read them."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.moments import local_time, timestamp_ms
    from tenantry.cli.output import Column
    from tenantry.cli.owners import find_owner, owner_text, subject_text
    from tenantry.v1 import role_service_pb2

    columns: list[Column[pb.RoleBinding]] = [
        Column("WHO", lambda one: subject_text(one.subject), flexible=True),
        Column("ROLE", lambda one: role_word(one.role)),
        Column("WHERE", owner_text, flexible=True),
        Column("SINCE", lambda one: local_time(timestamp_ms(one.grant_time))),
        Column("GRANTED BY", lambda one: one.granted_by, flexible=True),
    ]
    with invocation.connect() as master:
        where = find_owner(master, owner) if owner else ""
        wanted = role_service_pb2.ListRolesRequest(owner=where, user=user, group=group, page_size=_PAGE)
        invocation.printer().listing(_all(master, wanted), columns, to_plain, "No roles.")


@role.command("definitions")
@pass_invocation
def list_definitions(invocation: Invocation) -> None:
    """What each role allows."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.output import Column
    from tenantry.v1 import role_service_pb2

    columns: list[Column[pb.RoleDefinition]] = [
        Column("ROLE", lambda one: role_word(one.role)),
        Column("RIGHTS", lambda one: " ".join(one.permissions), flexible=True),
    ]
    with invocation.connect() as master:
        request = role_service_pb2.ListRoleDefinitionsRequest()
        found = master.call(master.roles.ListRoleDefinitions, request).definitions
    invocation.printer().listing(found, columns, to_plain, "No roles.")


@click.command("whoami", cls=Verb)
@pass_invocation
def whoami(invocation: Invocation) -> None:
    """Who you are on the Master: user, roles, and what your token leaves of them."""
    from tenantry.cli.documents import to_plain
    from tenantry.v1 import role_service_pb2

    with invocation.connect() as master:
        answer = master.call(master.roles.WhoAmI, role_service_pb2.WhoAmIRequest())
    printer = invocation.printer()
    printer.document(to_plain(answer), lambda: printer.details(_identity(answer)))


@click.command("can-i", cls=Verb)
@click.argument("verb", metavar="VERB")
@click.argument("owner", metavar="OBJECT", default="main", shell_complete=tenant_references)
@pass_invocation
@click.pass_context
def can_i(context: click.Context, invocation: Invocation, verb: str, owner: str) -> None:
    """Whether you may do VERB at OBJECT: a Tenant, `main` (the default) or `shared`. The exit code is 0 for yes, 6 for no.

    VERB is a right such as tenant.move, or its last word where that says enough: move, edit, admit, open, export; read is
    tenant.read at a Tenant. `tenantry role definitions` shows them all.
    """
    from tenantry.cli.owners import find_owner
    from tenantry.v1 import role_service_pb2

    with invocation.connect() as master:
        permission = _permission(master, verb, owner)
        request = role_service_pb2.CheckAccessRequest(permission=permission, owner=find_owner(master, owner))
        allowed = master.call(master.roles.CheckAccess, request).allowed
    plain: dict[str, Any] = {"permission": permission, "owner": request.owner, "allowed": allowed}
    invocation.printer().document(plain, lambda: ["yes" if allowed else "no"])
    if not allowed:
        context.exit(EXIT_NO)


def _permission(master: Master, verb: str, owner: str) -> str:
    """The right that a verb is; of several by its last word the one that is about the object itself."""
    from tenantry.v1 import role_service_pb2

    request = role_service_pb2.ListRoleDefinitionsRequest()
    definitions = master.call(master.roles.ListRoleDefinitions, request).definitions
    known = sorted({permission for one in definitions for permission in one.permissions})
    fitting = [permission for permission in known if verb in (permission, permission.rpartition(".")[2])]
    own = f"{_RIGHTS_ABOUT.get(owner, 'tenant')}.{verb}"
    if own in fitting:
        return own
    if len(fitting) != 1:
        problem = f"may be {', '.join(fitting)}" if fitting else "is no right"
        raise InputInvalid(f"{verb!r} {problem}", f"The rights are {', '.join(known)}.")
    return fitting[0]


def _identity(answer: pb.WhoAmIResponse) -> Iterator[tuple[str, str]]:
    from tenantry.cli.moments import local_time, timestamp_ms
    from tenantry.cli.owners import owner_text

    yield "user", answer.user
    for binding in answer.bindings:
        by = f" by the group {binding.subject.group}" if binding.subject.group else ""
        yield "role", f"{role_word(binding.role)} at {owner_text(binding)}{by}"
    yield "session" if answer.session else "token", f"{answer.token_id} ({answer.token_name})"
    if answer.permissions_narrowed:
        yield "only rights", " ".join(answer.permissions) or "none"
    if answer.owners_narrowed:
        yield "only at", " ".join(answer.owners) or "nowhere"
    if answer.HasField("expire_time"):
        yield "until", local_time(timestamp_ms(answer.expire_time))


def _all(master: Master, request: pb.ListRolesRequest) -> Iterator[pb.RoleBinding]:
    while True:
        answer = master.call(master.roles.ListRoles, request)
        yield from answer.bindings
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token

"""group create, list, delete, add, remove."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tenantry.cli.commands.choices import yes_option
from tenantry.cli.completions import user_names
from tenantry.cli.confirmation import confirm
from tenantry.cli.invocation import Invocation, Noun, pass_invocation

if TYPE_CHECKING:
    from tenantry.v1 import group_service_pb2 as pb

users_argument = click.argument("users", metavar="USER...", nargs=-1, required=True, shell_complete=user_names)


@click.group(cls=Noun)
def group() -> None:
    """Groups: users that hold roles together."""


@group.command("create")
@click.argument("name", metavar="NAME")
@click.option("--description", default="", metavar="TEXT")
@click.option("--external", default="", metavar="NAME", help="The group of the OpenID provider that it stands for.")
@pass_invocation
def create_group(invocation: Invocation, name: str, description: str, external: str) -> None:
    """Make a group called NAME, without members and roles."""
    from tenantry.v1 import group_service_pb2

    wanted = group_service_pb2.Group(name=name, description=description, external=external)
    with invocation.connect() as master:
        made = master.call(master.groups.CreateGroup, group_service_pb2.CreateGroupRequest(group=wanted)).group
    _say(invocation, made, "Made")


@group.command("list")
@pass_invocation
def list_groups(invocation: Invocation) -> None:
    """All groups by name, with their members."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.output import Column
    from tenantry.v1 import group_service_pb2

    columns: list[Column[pb.Group]] = [
        Column("NAME", lambda one: one.name, flexible=True),
        Column("MEMBERS", lambda one: " ".join(member.user for member in one.members), flexible=True),
        Column("STANDS FOR", lambda one: one.external, flexible=True),
        Column("DESCRIPTION", lambda one: one.description, flexible=True),
    ]
    with invocation.connect() as master:
        found = master.call(master.groups.ListGroups, group_service_pb2.ListGroupsRequest()).groups
    invocation.printer().listing(found, columns, to_plain, "No groups.")


@group.command("delete")
@click.argument("name", metavar="NAME")
@yes_option
@pass_invocation
def delete_group(invocation: Invocation, name: str, confirmed: bool) -> None:
    """Erase a group; its members lose the roles that it holds."""
    from tenantry.cli.escaping import escape
    from tenantry.v1 import group_service_pb2

    confirm(confirmed, [f"This erases the group {escape(name)}; its members lose its roles."], "Go on?")
    with invocation.connect() as master:
        master.call(master.groups.DeleteGroup, group_service_pb2.DeleteGroupRequest(name=name))
    invocation.printer().document({"deleted": name}, lambda: [f"The group {escape(name)} is deleted."])


@group.command("add")
@click.argument("name", metavar="NAME")
@users_argument
@pass_invocation
def add_members(invocation: Invocation, name: str, users: tuple[str, ...]) -> None:
    """Put users into a group: they hold its roles from the next call on."""
    from tenantry.v1 import group_service_pb2

    with invocation.connect() as master:
        request = group_service_pb2.AddGroupMembersRequest(name=name, users=users)
        changed = master.call(master.groups.AddGroupMembers, request).group
    _say(invocation, changed, "Changed")


@group.command("remove")
@click.argument("name", metavar="NAME")
@users_argument
@pass_invocation
def remove_members(invocation: Invocation, name: str, users: tuple[str, ...]) -> None:
    """Take users out of a group: they lose its roles at once."""
    from tenantry.v1 import group_service_pb2

    with invocation.connect() as master:
        request = group_service_pb2.RemoveGroupMembersRequest(name=name, users=users)
        changed = master.call(master.groups.RemoveGroupMembers, request).group
    _say(invocation, changed, "Changed")


def _say(invocation: Invocation, group: pb.Group, done: str) -> None:
    from tenantry.cli.documents import to_plain
    from tenantry.cli.escaping import escape

    members = " ".join(member.user for member in group.members) or "nobody"
    invocation.printer().document(
        to_plain(group), lambda: [escape(f"{done} the group {group.name}; in it: {members}.")]
    )

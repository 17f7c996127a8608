"""ca list, prepare, activate, retire: replacing the Master's certification authority."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tenantry.cli.commands.choices import yes_option
from tenantry.cli.confirmation import confirm
from tenantry.cli.invocation import Invocation, Noun, pass_invocation

if TYPE_CHECKING:
    from tenantry.v1 import authority_service_pb2 as pb


@click.group(cls=Noun)
def ca() -> None:
    """Certification authorities, and their replacement in steps: prepare, activate, wait, retire."""


@ca.command("list")
@pass_invocation
def list_authorities(invocation: Invocation) -> None:
    """All authorities, newest first, with how many Tenants depend on each."""
    from tenantry.cli.documents import enum_word, to_plain
    from tenantry.cli.moments import local_time, timestamp_ms
    from tenantry.cli.output import Column
    from tenantry.v1 import authority_service_pb2

    columns: list[Column[pb.Authority]] = [
        Column("ID", lambda one: one.id),
        Column("STATE", lambda one: enum_word(authority_service_pb2.AuthorityState.DESCRIPTOR, one.state).lower()),
        Column("TENANTS", lambda one: str(one.tenants), right=True),
        Column("UNCONFIRMED", lambda one: str(one.unconfirmed_tenants), right=True),
        Column("ROOT UNTIL", lambda one: local_time(timestamp_ms(one.root_not_after))[:10]),
        Column("INTERMEDIATE UNTIL", lambda one: local_time(timestamp_ms(one.intermediate_not_after))[:10]),
        Column("FINGERPRINT", lambda one: one.fingerprint, flexible=True),
    ]
    with invocation.connect() as master:
        request = authority_service_pb2.ListAuthoritiesRequest()
        authorities = master.call(master.authorities.ListAuthorities, request).authorities
    invocation.printer().listing(authorities, columns, to_plain, "No authorities.")


@ca.command("prepare")
@pass_invocation
def prepare_authority(invocation: Invocation) -> None:
    """Make a new authority; the daemons learn to trust it too."""
    from tenantry.v1 import authority_service_pb2

    with invocation.connect() as master:
        request = authority_service_pb2.PrepareAuthorityRequest()
        made = master.call(master.authorities.PrepareAuthority, request).authority
    _show(invocation, made, "is prepared. When no Tenant is unconfirmed (`tenantry ca list`), activate it")


@ca.command("activate")
@click.argument("authority", metavar="ID")
@click.option("--force", is_flag=True, help="Although Tenants have not confirmed; they must be re-keyed.")
@pass_invocation
def activate_authority(invocation: Invocation, authority: str, force: bool) -> None:
    """Issue from the prepared authority from now on; the daemons renew."""
    from tenantry.v1 import authority_service_pb2

    with invocation.connect() as master:
        request = authority_service_pb2.ActivateAuthorityRequest(id=authority, force=force)
        changed = master.call(master.authorities.ActivateAuthority, request).authority
    _show(invocation, changed, "issues from now on. When no Tenant uses the old one, retire that")


@ca.command("retire")
@click.argument("authority", metavar="ID")
@click.option("--force", is_flag=True, help="Although Tenants still use it; they must be re-keyed.")
@yes_option
@pass_invocation
def retire_authority(invocation: Invocation, authority: str, force: bool, confirmed: bool) -> None:
    """Stop trusting the old authority, and cut every link that was opened under it."""
    from tenantry.cli.escaping import escape
    from tenantry.v1 import authority_service_pb2

    confirm(confirmed, [f"After this nothing of the authority {escape(authority)} is trusted any more."], "Go on?")
    with invocation.connect() as master:
        request = authority_service_pb2.RetireAuthorityRequest(id=authority, force=force)
        changed = master.call(master.authorities.RetireAuthority, request).authority
    _show(invocation, changed, "is retired")


def _show(invocation: Invocation, authority: pb.Authority, happened: str) -> None:
    from tenantry.cli.documents import to_plain
    from tenantry.cli.escaping import escape

    invocation.printer().document(
        to_plain(authority),
        lambda: [f"Authority {escape(authority.id)} {happened}.", f"Fingerprint {escape(authority.fingerprint)}"],
    )

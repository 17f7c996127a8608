"""profile list, use, show, delete."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from tenantry.cli.invocation import Invocation, Noun, pass_invocation
from tenantry.cli.troubles import InputInvalid

if TYPE_CHECKING:
    from tenantry.cli.profiles import Profile, Profiles


def _complete_names(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    from tenantry.cli.profiles import profile_names

    return profile_names(incomplete)


@click.group(cls=Noun)
def profile() -> None:
    """Profiles: the Masters that you have signed in to."""


@profile.command("list")
@pass_invocation
def list_profiles(invocation: Invocation) -> None:
    """All profiles, the one in use marked."""
    from tenantry.cli.output import Column

    profiles = _load()
    columns: list[Column[str]] = [
        Column("", lambda name: "*" if name == profiles.current else ""),
        Column("NAME", lambda name: name),
        Column("ADDRESS", lambda name: profiles.by_name[name].address, flexible=True),
        Column("TRUST DOMAIN", lambda name: profiles.by_name[name].trust_domain, flexible=True),
    ]
    invocation.printer().listing(
        sorted(profiles.by_name),
        columns,
        lambda name: {**_public(profiles.by_name[name]), "name": name, "current": name == profiles.current},
        "No profiles. `tenantry login` makes one.",
    )


@profile.command("use")
@click.argument("name", shell_complete=_complete_names)
@pass_invocation
def use_profile(invocation: Invocation, name: str) -> None:
    """Use this profile from now on."""
    from tenantry.cli.profiles import changing_profiles, profiles_path

    with changing_profiles(profiles_path()) as held:
        held[0] = held[0].using(name)
    invocation.printer().document({"current": name}, lambda: [f"Profile {name} is now in use."])


@profile.command("show")
@click.argument("name", required=False, shell_complete=_complete_names)
@pass_invocation
def show_profile(invocation: Invocation, name: str | None) -> None:
    """One profile (by default the one in use), without its token."""
    profiles = _load()
    chosen = name or invocation.profile or os.environ.get("TENANTRY_PROFILE") or profiles.current
    if chosen is None:
        raise InputInvalid("no profile is in use", "Name one, or `tenantry login`.")
    public = {"name": chosen, **_public(profiles.get(chosen)), "current": chosen == profiles.current}
    printer = invocation.printer()
    printer.document(public, lambda: printer.details((label, str(value)) for label, value in public.items()))


@profile.command("delete")
@click.argument("name", shell_complete=_complete_names)
@pass_invocation
def delete_profile(invocation: Invocation, name: str) -> None:
    """Forget a profile, token included, and what proves earlier sign-ins at its address.

    The token itself stays valid on the Master.
    """
    from tenantry.cli.profiles import changing_profiles, profiles_path

    with changing_profiles(profiles_path()) as held:
        address = held[0].get(name).address
        held[0] = held[0].without(name).without_proofs(address)
    invocation.printer().document({"deleted": name}, lambda: [f"Profile {name} is deleted."])


def _load() -> Profiles:
    from tenantry.cli.profiles import load_profiles, profiles_path

    return load_profiles(profiles_path())


def _public(stored: Profile) -> dict[str, str]:
    """What may be shown of a profile."""
    from tenantry.transport.pinning import fingerprint_of

    try:
        fingerprint = fingerprint_of(stored.ca)
    except ValueError:
        fingerprint = "?"
    return {
        "address": stored.address,
        "trust_domain": stored.trust_domain,
        "ca_fingerprint": fingerprint,
        "signs_in_by": stored.signs_in_by,
    }

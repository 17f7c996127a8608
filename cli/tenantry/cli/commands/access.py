"""Signing in to Masters: login, logout, profile."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tenantry.cli.invocation import Invocation, Noun, Verb, pass_invocation
from tenantry.cli.troubles import InputInvalid
from tenantry.protocol.joining import DEFAULT_API_PORT, TOKEN_PREFIX, check_fingerprint, parse_secret, split_address
from tenantry.protocol.names import check_trust_domain, listener_name

if TYPE_CHECKING:
    from tenantry.cli.profiles import Profile, Profiles

DEFAULT_NAME = "default"


def _complete_names(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    from tenantry.cli.profiles import profile_names

    return profile_names(incomplete)


@click.command(cls=Verb)
@click.option("--address", metavar="HOST:PORT", help="The Master's api listener; port 7443 when none is given.")
@click.option("--ca-file", type=click.Path(path_type=Path), help="The Master's root certificate (PEM).")
@click.option("--ca-fingerprint", metavar="SHA256", help="Or its fingerprint, as `tenantry-master init` printed it.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="File with the token; `-` or a pipe: stdin; else it is asked for.",
)
@click.option("--trust-domain", metavar="DOMAIN", help="Trust domain of the Master.  [default: tenantry.internal]")
@pass_invocation
def login(
    invocation: Invocation,
    address: str | None,
    ca_file: Path | None,
    ca_fingerprint: str | None,
    token_file: Path | None,
    trust_domain: str | None,
) -> None:
    """Store how to reach a Master, and the token for it, as a profile.

    The Master's root certificate is pinned: by a file, or by the fingerprint, with which it is fetched from the Master
    itself. Address, certificate and token are tried before anything is stored. --profile names the profile.
    """
    from tenantry.cli.connection import Master
    from tenantry.cli.profiles import DEFAULT_TRUST_DOMAIN, Profile, changing_profiles, profiles_path

    address = address or os.environ.get("TENANTRY_ADDRESS")
    if not address:
        raise InputInvalid("no address is given", "Add --address HOST:PORT.")
    name = _name_for(invocation.profile or os.environ.get("TENANTRY_PROFILE"), address)
    host, port = split_address(address, DEFAULT_API_PORT)
    domain = check_trust_domain(trust_domain or os.environ.get("TENANTRY_TRUST_DOMAIN") or DEFAULT_TRUST_DOMAIN)
    roots = _roots(host, port, listener_name("api", domain), ca_file, ca_fingerprint, invocation.timeout)
    profile = Profile(address, domain, roots, _token(token_file))
    with Master(profile, invocation.timeout) as master:
        described = master.describe()
    path = profiles_path()
    with changing_profiles(path) as held:
        held[0] = held[0].with_profile(name, profile)
    plain = {"profile": name, "address": address, "instance_id": described.instance_id, "caller": described.caller}
    invocation.printer().document(
        plain,
        lambda: [f"Signed in to {address} as {_safe(described.caller)}; profile {name} is now in use ({path})."],
    )


@click.command(cls=Verb)
@pass_invocation
def logout(invocation: Invocation) -> None:
    """Forget the profile in use (or --profile), token included. The token itself stays valid on the Master."""
    from tenantry.cli.profiles import changing_profiles, profiles_path

    with changing_profiles(profiles_path()) as held:
        name = invocation.profile or os.environ.get("TENANTRY_PROFILE") or held[0].current
        if name is None:
            raise InputInvalid("no profile is in use", "`tenantry profile list` shows those that there are.")
        held[0] = held[0].without(name)
    invocation.printer().document({"deleted": name}, lambda: [f"Profile {_safe(name)} is deleted."])


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
    """Forget a profile, token included. The token itself stays valid on the Master."""
    from tenantry.cli.profiles import changing_profiles, profiles_path

    with changing_profiles(profiles_path()) as held:
        held[0] = held[0].without(name)
    invocation.printer().document({"deleted": name}, lambda: [f"Profile {name} is deleted."])


def _name_for(wanted: str | None, address: str) -> str:
    """The profile to write. Without a wish, one for another Master is not overwritten: its token may exist nowhere else."""
    from tenantry.cli.profiles import check_profile_name

    if wanted is not None:
        return check_profile_name(wanted)
    present = _load().by_name.get(DEFAULT_NAME)
    if present is not None and present.address != address:
        raise InputInvalid(
            f"the profile {DEFAULT_NAME} is for {_safe(present.address)}",
            f"Add --profile NAME for another one, or --profile {DEFAULT_NAME} to replace it.",
        )
    return DEFAULT_NAME


def _roots(
    host: str, port: int, server_name: str, ca_file: Path | None, fingerprint: str | None, timeout: float
) -> str:
    """The root certificates to trust: from the file, checked against the fingerprint, or fetched by it."""
    from tenantry.cli.connection import explain
    from tenantry.cli.profiles import read_roots
    from tenantry.transport.pinning import EndpointUnreachable, fetch_root, fingerprint_of

    wanted = check_fingerprint(fingerprint, "--ca-fingerprint") if fingerprint else None
    if ca_file is None and not wanted and os.environ.get("TENANTRY_CA_FILE"):
        ca_file = Path(os.environ["TENANTRY_CA_FILE"])
    if ca_file is not None:
        roots = read_roots(ca_file)
        try:
            found = fingerprint_of(roots)
        except ValueError:
            found = None
        if found is None or (wanted and found != wanted):
            raise InputInvalid(
                f"{ca_file} does not hold the certificate {'with this fingerprint' if wanted else 'of a root'}",
                "Compare it with what `tenantry-master init` wrote.",
            )
        return roots
    if wanted is None:
        raise InputInvalid(
            "nothing says which Master to trust",
            "Add --ca-file, or --ca-fingerprint with what `tenantry-master init` printed.",
        )
    try:
        return fetch_root(host, port, server_name, wanted, timeout)
    except EndpointUnreachable as error:
        raise explain(error) from None


def _token(token_file: Path | None) -> str:
    """The token from a file, stdin, or a hidden prompt; never from the command line."""
    from tenantry.cli.profiles import read_token

    if token_file is None and os.environ.get("TENANTRY_TOKEN_FILE"):
        token_file = Path(os.environ["TENANTRY_TOKEN_FILE"])
    if token_file is not None and str(token_file) != "-":
        text = read_token(token_file)
    elif sys.stdin.isatty():
        text = click.prompt("Token", hide_input=True, err=True).strip()
    else:
        text = sys.stdin.readline().strip()
    if parse_secret(text, TOKEN_PREFIX) is None:
        raise InputInvalid("this is not a token", "A token is one line and starts with tna_; copy all of it.")
    return text


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
    return {"address": stored.address, "trust_domain": stored.trust_domain, "ca_fingerprint": fingerprint}


def _safe(text: str) -> str:
    from tenantry.cli.escaping import escape

    return escape(text)

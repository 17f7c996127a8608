"""Signing in to Masters, and out: login, logout."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tenantry.cli.invocation import Invocation, Verb, pass_invocation
from tenantry.cli.troubles import InputInvalid
from tenantry.protocol.joining import DEFAULT_API_PORT, TOKEN_PREFIX, check_fingerprint, parse_secret, split_address
from tenantry.protocol.names import check_trust_domain, listener_name

if TYPE_CHECKING:
    from tenantry.cli.connection import Master
    from tenantry.cli.profiles import Profile, Profiles
    from tenantry.v1.session_service_pb2 import SignInResponse

DEFAULT_NAME = "default"
PATIENCE_S = 75.0
"""A sign-in may have to wait a minute for its turn, where somebody else tries the same name at the same address."""
_FILE = click.Path(path_type=Path)


@click.command(cls=Verb)
@click.option(
    "--address",
    metavar="HOST:PORT",
    help="The Master's api listener; port 7443 when none is given. Without it: that of the profile, to sign in again.",
)
@click.option("--ca-file", type=_FILE, help="The Master's root certificate (PEM).")
@click.option("--ca-fingerprint", metavar="SHA256", help="Or its fingerprint, as `tenantry-master init` printed it.")
@click.option("--token-file", type=_FILE, help="File with a token; `-` or a pipe: stdin; else it is asked for.")
@click.option("--user", metavar="NAME", help="Sign in with a password instead, and with a code where the user has one.")
@click.option(
    "--password-file", type=_FILE, help="With --user: file with the password; else it is asked for, or read from stdin."
)
@click.option(
    "--openid", is_flag=True, help="Sign in through the Master's OpenID provider, with a browser on this machine."
)
@click.option("--device", is_flag=True, help="With --openid: with a browser on any other machine.")
@click.option("--certificate", type=_FILE, help="A machine's certificate (PEM), for the Master's machines listener.")
@click.option("--key", type=_FILE, help="With --certificate: its private key (PEM, mode 0600).")
@click.option("--trust-domain", metavar="DOMAIN", help="Trust domain of the Master.  [default: tenantry.internal]")
@pass_invocation
def login(
    invocation: Invocation,
    address: str | None,
    ca_file: Path | None,
    ca_fingerprint: str | None,
    token_file: Path | None,
    user: str | None,
    password_file: Path | None,
    openid: bool,
    device: bool,
    certificate: Path | None,
    key: Path | None,
    trust_domain: str | None,
) -> None:
    """Store how to reach a Master, and what to sign in with, as a profile.

    With a token, with a name and a password, through the Master's OpenID provider, or with a machine's certificate. The
    Master's root certificate is pinned: by a file, or by the fingerprint, with which it is fetched from the Master
    itself. Everything is tried before anything is stored. --profile names the profile.
    """
    from dataclasses import replace

    from tenantry.cli.connection import Master
    from tenantry.cli.profiles import changing_profiles, profiles_path

    openid, proof = openid or device, ""
    ways = {"--token-file": token_file, "--user": user, "--openid": openid or None, "--certificate": certificate}
    chosen = [way for way, value in ways.items() if value is not None]
    if len(chosen) > 1:
        raise InputInvalid(f"{' and '.join(chosen)} are different ways to sign in", "Choose one.")
    listener = "machines" if certificate is not None else "api"
    name, reached = _reach(invocation, address, ca_file, ca_fingerprint, trust_domain, listener)
    if user is not None:
        with Master(reached, max(invocation.timeout, PATIENCE_S)) as stranger:
            session = _sign_in(stranger, user, password_file, _load().proof_of(reached.address, user))
        proof = session.proof
        profile = replace(reached, token=session.token, session=True)
        _tell_of_factors(session)
    elif openid:
        from tenantry.cli.openid import sign_in_elsewhere, sign_in_here

        with Master(reached, invocation.timeout) as stranger:
            session = sign_in_elsewhere(stranger) if device else sign_in_here(stranger)
        profile = replace(reached, token=session.token, session=True)
    elif certificate is not None:
        profile = _with_certificate(reached, certificate, key)
    else:
        profile = replace(reached, token=_token(token_file))
    with Master(profile, invocation.timeout) as master:
        who, instance = _who(master)
    path = profiles_path()
    with changing_profiles(path) as held:
        held[0] = held[0].with_profile(name, profile)
        if proof:
            held[0] = held[0].with_proof(profile.address, who, proof)
    plain = {"profile": name, "address": profile.address, "instance_id": instance, "caller": who}
    invocation.printer().document(
        plain,
        lambda: [f"Signed in to {profile.address} as {_safe(who)}; profile {name} is now in use ({path})."],
    )


@click.command(cls=Verb)
@pass_invocation
def logout(invocation: Invocation) -> None:
    """End the session on the Master and forget the profile in use (or --profile).

    A token or certificate that was made for a program stays valid; `tenantry token revoke` ends a token. What proves to the
    Master that this device has signed in before is kept for the next time; `tenantry profile delete` forgets that too.
    """
    from tenantry.cli.profiles import changing_profiles, profiles_path

    profiles = _load()
    name = invocation.profile or os.environ.get("TENANTRY_PROFILE") or profiles.current
    if name is None:
        raise InputInvalid("no profile is in use", "`tenantry profile list` shows those that there are.")
    profile = profiles.get(name)
    ended = _end_session(profile, invocation.timeout) if profile.session else None
    with changing_profiles(profiles_path()) as held:
        held[0] = held[0].without(name)
    said = {None: "", True: " The session has ended.", False: " The Master was not told: the session ends by itself."}
    invocation.printer().document(
        {"deleted": name, "session_ended": ended}, lambda: [f"Profile {_safe(name)} is deleted.{said[ended]}"]
    )


def _end_session(profile: Profile, timeout: float) -> bool:
    """Whether the session has ended on the Master; the profile goes in any case."""
    from tenantry.cli.connection import Master
    from tenantry.cli.troubles import Trouble
    from tenantry.protocol.failures import Failure
    from tenantry.v1 import session_service_pb2

    try:
        with Master(profile, timeout) as master:
            master.call(master.sessions.SignOut, session_service_pb2.SignOutRequest())
    except Failure as failure:
        # What is not signed in any more has ended already.
        return failure.code == "UNAUTHENTICATED"
    except Trouble:
        return False
    return True


def _reach(
    invocation: Invocation,
    address: str | None,
    ca_file: Path | None,
    ca_fingerprint: str | None,
    trust_domain: str | None,
    listener: str,
) -> tuple[str, Profile]:
    """The name of the profile to write, and a profile that reaches the Master but has nothing to sign in with yet."""
    from tenantry.cli.profiles import DEFAULT_TRUST_DOMAIN, Profile

    wanted = invocation.profile or os.environ.get("TENANTRY_PROFILE")
    address = address or os.environ.get("TENANTRY_ADDRESS")
    if not address:
        profiles = _load()
        known = wanted or profiles.current
        if known is None or known not in profiles.by_name:
            raise InputInvalid("no address is given", "Add --address HOST:PORT.")
        present = profiles.get(known)
        if ca_file is None and not ca_fingerprint:
            return known, Profile(present.address, trust_domain or present.trust_domain, present.ca)
        address = present.address
        wanted = known
    name = _name_for(wanted, address)
    host, port = split_address(address, DEFAULT_API_PORT)
    domain = check_trust_domain(trust_domain or os.environ.get("TENANTRY_TRUST_DOMAIN") or DEFAULT_TRUST_DOMAIN)
    roots = _roots(host, port, listener_name(listener, domain), ca_file, ca_fingerprint, invocation.timeout)
    return name, Profile(address, domain, roots)


def _sign_in(stranger: Master, user: str, password_file: Path | None, proof: str) -> SignInResponse:
    """A session by password; the code is asked for when the Master wants one."""
    from tenantry.cli.confirmation import ask_secret
    from tenantry.protocol.failures import SecondFactorRequired
    from tenantry.v1 import session_service_pb2

    request = session_service_pb2.SignInRequest(name=user, password=ask_secret("Password", password_file), proof=proof)
    try:
        return stranger.call(stranger.sessions.SignIn, request)
    except SecondFactorRequired:
        request.code = ask_secret("Code of the second factor, or a recovery code", None, hidden=False)
    return stranger.call(stranger.sessions.SignIn, request)


def _who(master: Master) -> tuple[str, str]:
    """Who is signed in, and to which Master; its id is empty for those who may not read that."""
    from tenantry.protocol.failures import NotAllowed

    try:
        described = master.describe()
    except NotAllowed:
        return master.signed_in_as(), ""
    return described.caller, described.instance_id


def _tell_of_factors(session: SignInResponse) -> None:
    if session.HasField("recovery_codes_left"):
        click.echo(f"That recovery code is used up; {session.recovery_codes_left} are left.", err=True)
    if session.second_factor_missing:
        click.echo(
            "This Master requires a second factor: `tenantry user second-factor enrol`, then sign in again with a code.",
            err=True,
        )


def _with_certificate(reached: Profile, certificate: Path, key: Path | None) -> Profile:
    from dataclasses import replace

    from tenantry.cli.profiles import read_roots, read_secret

    if key is None:
        raise InputInvalid("a certificate needs its key", "Add --key FILE.")
    return replace(reached, certificate=read_roots(certificate), key=read_secret(key, "key"))


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


def _safe(text: str) -> str:
    from tenantry.cli.escaping import escape

    return escape(text)

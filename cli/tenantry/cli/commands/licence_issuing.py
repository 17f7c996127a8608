"""license issue, verify, issuer: what needs no Master and no network. Keys stay in files; passphrases come from files or a prompt."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from tenantry.cli.commands.licence import FILE, license_, read_licence_file
from tenantry.cli.invocation import Invocation, Noun, Verb, pass_invocation
from tenantry.cli.troubles import InputInvalid, LocalFileUnusable

if TYPE_CHECKING:
    from tenantry.licensing.issuers import Issuer, TrustedIssuer, TrustFile
    from tenantry.licensing.signing import IssuerKey
    from tenantry.protocol.licences import Licence

__all__ = ["license_"]

_TRUSTED: Final = "trusted.json"
_PASSPHRASE = click.option(
    "--passphrase-file", type=FILE, metavar="FILE", help="A file of mode 0600 with the passphrase of the issuer's key."
)


@click.command("issue", cls=Verb)
@click.argument("request", type=FILE)
@click.argument("file", type=FILE, required=False)
@click.option("--issuer", "name", metavar="NAME", help="The issuer, as `license issuer list` shows it.")
@click.option("--key-file", type=FILE, metavar="FILE", help="Or the file of the issuer's key.")
@_PASSPHRASE
@click.option("--holder", metavar="NAME", help="For whom  [default: as the request wishes].")
@click.option("--tenants", type=click.IntRange(1), metavar="N", help="For how many Tenants  [default: as the request].")
@click.option("--module", "modules", multiple=True, metavar="NAME", help="For this module  [default: as the request].")
@click.option("--days", type=click.IntRange(1, 36_500), default=365, show_default=True, help="For how long.")
@click.option("--begins", type=click.DateTime(["%Y-%m-%d"]), metavar="DATE", help="From then on (UTC)  [default: now].")
@pass_invocation  # type: ignore[arg-type]  # mypy does not see **wanted through Concatenate
def issue_licence(
    invocation: Invocation,
    request: Path,
    file: Path | None,
    name: str | None,
    key_file: Path | None,
    passphrase_file: Path | None,
    begins: dt.datetime | None,
    **wanted: Any,
) -> None:
    """Make a licence from the request file REQUEST, signed with an issuer's key, into FILE (or print it).

    Works offline. The licence fits the instance that made the request and no other.
    """
    from tenantry.cli.moments import now_ms
    from tenantry.licensing.signing import issue
    from tenantry.process.files import write_public
    from tenantry.protocol.licences import DAY_MS, decode_licence, decode_request, open_envelope

    asked = decode_request(read_licence_file(request))
    holder = wanted["holder"] or asked.holder
    if not holder:
        raise InputInvalid("the request names no holder", "Add --holder NAME.")
    key = _load_key(name, key_file, passphrase_file)
    text = issue(
        asked,
        key,
        holder=holder,
        lifetime_ms=wanted["days"] * DAY_MS,
        now_ms=now_ms(),
        not_before_ms=None if begins is None else int(_utc_ms(begins)),
        tenants=wanted["tenants"],
        modules=wanted["modules"] or None,
    )
    if file is None:
        click.echo(text, nl=False)
        return
    write_public(file.absolute(), text.encode("ascii"))
    licence = decode_licence(open_envelope(text).payload)
    invocation.printer().document(
        {"file": str(file), **_plain(licence)}, lambda: [f"The licence is in {file}.", *_about(invocation, licence)]
    )


@click.command("verify", cls=Verb)
@click.argument("file", type=FILE)
@click.option(
    "--issuer", "issuer_files", type=FILE, multiple=True, metavar="FILE", help="Trust the issuer in this file for once."
)
@click.option("--fingerprint", metavar="TEXT", help="Whether it is bound to this instance.")
@pass_invocation
def verify_licence(invocation: Invocation, file: Path, issuer_files: tuple[Path, ...], fingerprint: str | None) -> None:
    """Prove the licence FILE offline: signature, form, time, and to which instance it is bound.

    The issuer must be trusted here (`license issuer trust`), be one of one's own, or be named with --issuer.
    """
    from tenantry.cli.moments import now_ms
    from tenantry.licensing.issuers import ALL_KINDS, TrustedIssuer, decode_issuer
    from tenantry.licensing.signing import verify
    from tenantry.protocol.failures import LicenceExpired, LicenceInvalid

    given = [TrustedIssuer(decode_issuer(_read_text(one)), ALL_KINDS, 0) for one in issuer_files]
    licence = verify(read_licence_file(file), given or [*_trust_file().read(), *_own_issuers()])
    if fingerprint is not None and licence.fingerprint != fingerprint:
        raise LicenceInvalid(problem="it was issued for another instance: its fingerprint is not this one")
    now = now_ms()
    if licence.not_after_ms <= now:
        raise LicenceExpired(serial=licence.serial, ended=_moment(licence.not_after_ms))
    state = "in force" if licence.in_force(now) else "not yet in force"
    invocation.printer().document(
        {"valid": True, "in_force": licence.in_force(now), **_plain(licence)},
        lambda: [f"The licence is genuine and {state}.", *_about(invocation, licence)],
    )


@click.group(cls=Noun)
def issuer() -> None:
    """Issuers' keys: make one, list them, hand the public side over.

    They are in TENANTRY_ISSUERS, or in tenantry/issuers beside the profiles; a key has mode 0600. A Master trusts an issuer by
    `tenantry-master license trust FILE` on its own machine.
    """


@issuer.command("create")
@click.argument("name")
@click.option("--key-file", type=FILE, metavar="FILE", help="Where to keep the key  [default: with the others].")
@click.option("--encrypt", is_flag=True, help="Ask for a passphrase (or read a line of stdin) to encrypt the key.")
@_PASSPHRASE
@pass_invocation
def create_issuer(
    invocation: Invocation, name: str, key_file: Path | None, encrypt: bool, passphrase_file: Path | None
) -> None:
    """Make an issuer called NAME. Its key signs licences: whoever has it decides who may run what."""
    from tenantry.licensing.signing import generate_issuer, store_issuer_key
    from tenantry.process.files import private_directory

    key = generate_issuer(name)
    path = key_file.absolute() if key_file is not None else private_directory(_folder()) / f"{_file_name(name)}.json"
    if path.exists():
        raise LocalFileUnusable(f"{path} exists already", "Choose another name, or another file.")
    passphrase = _passphrase(passphrase_file)
    if passphrase is None and encrypt:
        passphrase = _ask("Passphrase", twice=True)
    store_issuer_key(path, key, passphrase)
    plain = {"name": name, "kid": key.issuer.kid, "key_file": str(path), "encrypted": passphrase is not None}
    invocation.printer().document(
        plain,
        lambda: [
            f"The issuer's key {key.issuer.kid} is in {path}. Keep a copy in a safe.",
            "`tenantry license issuer export` writes the file by which Masters and daemons trust it.",
        ],
    )


@issuer.command("list")
@pass_invocation
def list_issuers(invocation: Invocation) -> None:
    """The issuers whose keys are here, and those that are trusted here."""
    from tenantry.cli.output import Column

    rows = [
        *({"name": one.issuer.name, "kid": one.issuer.kid, "role": "own key"} for one in _own_issuers()),
        *(
            {
                "name": one.issuer.name,
                "kid": one.issuer.kid,
                "role": "trusted" if one.revoked_ms is None else "revoked",
            }
            for one in _trust_file().read()
        ),
    ]
    columns: list[Column[dict[str, str]]] = [
        Column("KEY ID", lambda one: one["kid"]),
        Column("HERE", lambda one: one["role"]),
        Column("NAME", lambda one: one["name"], flexible=True),
    ]
    invocation.printer().listing(rows, columns, dict, "No issuers. `tenantry license issuer create` makes one.")


@issuer.command("export")
@click.argument("name")
@click.argument("file", type=FILE, required=False)
@pass_invocation
def export_issuer(invocation: Invocation, name: str, file: Path | None) -> None:
    """Write the public key of an issuer (its name, or the file of its key) into FILE, or print it."""
    from tenantry.licensing.issuers import encode_issuer
    from tenantry.process.files import write_public

    path = Path(name) if Path(name).is_file() else _folder() / f"{_file_name(name)}.json"
    text = encode_issuer(_public_side(path))
    if file is None:
        click.echo(text, nl=False)
        return
    write_public(file.absolute(), text.encode("ascii"))
    invocation.printer().document(
        {"file": str(file)},
        lambda: [f"The public key is in {file}. On a Master: `tenantry-master license trust {file}`."],
    )


@issuer.command("trust")
@click.argument("file", type=FILE)
@pass_invocation
def trust_issuer(invocation: Invocation, file: Path) -> None:
    """Let `license verify` here believe the issuer in FILE. (A Master has a list of its own.)"""
    from tenantry.cli.moments import now_ms
    from tenantry.licensing.issuers import decode_issuer
    from tenantry.process.files import private_directory

    found = decode_issuer(_read_text(file))
    private_directory(_folder())
    _trust_file().trust(found, now_ms())
    invocation.printer().document(
        {"name": found.name, "kid": found.kid}, lambda: [f"{found.name} (key {found.kid}) is trusted here."]
    )


@issuer.command("revoke")
@click.argument("kid", metavar="KEY-ID")
@pass_invocation
def revoke_issuer(invocation: Invocation, kid: str) -> None:
    """Let `license verify` here believe this issuer's key no more. (On a Master: `tenantry-master license distrust`.)"""
    from tenantry.cli.moments import now_ms

    revoked = _trust_file().revoke(kid, now_ms())
    invocation.printer().document(
        {"name": revoked.issuer.name, "kid": kid}, lambda: [f"{revoked.issuer.name} (key {kid}) is revoked here."]
    )


def _folder() -> Path:
    from tenantry.cli.profiles import profiles_path

    chosen = os.environ.get("TENANTRY_ISSUERS")
    return Path(chosen).absolute() if chosen else profiles_path().absolute().parent / "issuers"


def _trust_file() -> TrustFile:
    from tenantry.licensing.issuers import TrustFile

    return TrustFile(_folder() / _TRUSTED)


def _own_issuers() -> list[TrustedIssuer]:
    from tenantry.licensing.issuers import ALL_KINDS, TrustedIssuer

    paths = sorted(path for path in _folder().glob("*.json") if path.name != _TRUSTED)
    return [TrustedIssuer(_public_side(path), ALL_KINDS, 0) for path in paths]


def _public_side(path: Path) -> Issuer:
    from tenantry.licensing.signing import read_issuer
    from tenantry.process.files import FileExposed

    try:
        return read_issuer(path)
    except FileExposed as exposed:
        raise LocalFileUnusable(f"{path} {exposed.problem}", f"To go on, {exposed.remedy}.") from None


def _load_key(name: str | None, key_file: Path | None, passphrase_file: Path | None) -> IssuerKey:
    """The key to issue with: the named one, or the only one. Raises InputInvalid, LocalFileUnusable, LicenceInvalid."""
    from tenantry.licensing.signing import PassphraseWrong, is_encrypted, load_issuer_key
    from tenantry.process.files import FileExposed

    if (name is not None) and (key_file is not None):
        raise InputInvalid("--issuer and --key-file exclude each other", "Give one of them.")
    if key_file is not None:
        path = key_file.absolute()
    elif name is not None:
        path = _folder() / f"{_file_name(name)}.json"
    else:
        own = sorted(one for one in _folder().glob("*.json") if one.name != _TRUSTED)
        if len(own) != 1:
            raise InputInvalid(f"there are {len(own)} issuers here", "Name one with --issuer, or a --key-file.")
        path = own[0]
    try:
        passphrase = _passphrase(passphrase_file)
        if passphrase is None and is_encrypted(path):
            passphrase = _ask("Passphrase of the issuer's key")
        return load_issuer_key(path, passphrase)
    except FileExposed as exposed:
        raise LocalFileUnusable(f"{exposed.path} {exposed.problem}", f"To go on, {exposed.remedy}.") from None
    except PassphraseWrong as wrong:
        raise LocalFileUnusable(str(wrong), "Name its file with --passphrase-file, or type it when asked.") from None


def _ask(what: str, *, twice: bool = False) -> str:
    """A passphrase from a prompt, or from a line of stdin. Raises InputInvalid."""
    from tenantry.cli.confirmation import ask_secret

    passphrase = ask_secret(what, None, twice=twice)
    if not passphrase:
        raise InputInvalid(
            "the passphrase is empty", "Type one, write it to stdin, or name its file with --passphrase-file."
        )
    return passphrase


def _passphrase(file: Path | None) -> str | None:
    from tenantry.process.files import read_private

    if file is None:
        return None
    try:
        passphrase = read_private(file.absolute()).decode().rstrip("\r\n")
    except UnicodeDecodeError:
        passphrase = ""
    if not passphrase:
        raise LocalFileUnusable(f"{file} holds no passphrase", "Write it into the file as one line of text.")
    return passphrase


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise LocalFileUnusable(f"{file} is no text", "Name the file that `license issuer export` wrote.") from None


def _file_name(name: str) -> str:
    """A file's name for an issuer's: what is special in a path is replaced."""
    return "".join(character if character.isalnum() or character in "-_" else "-" for character in name.lower())


def _plain(licence: Licence) -> dict[str, Any]:
    return {
        "serial": licence.serial,
        "kind": licence.kind.value,
        "holder": licence.holder,
        "fingerprint": licence.fingerprint,
        "issue_time": _moment(licence.issued_ms),
        "not_before": _moment(licence.not_before_ms),
        "not_after": _moment(licence.not_after_ms),
        "tenants": licence.tenants,
        "modules": list(licence.modules),
        "evaluation": licence.evaluation,
    }


def _about(invocation: Invocation, licence: Licence) -> list[str]:
    plain = _plain(licence)
    pairs = ((label, "" if value in (0, [], False) else str(value)) for label, value in plain.items())
    return list(invocation.printer().details(pairs))


def _moment(milliseconds: int) -> str:
    from tenantry.cli.moments import rfc3339, to_timestamp

    return rfc3339(to_timestamp(milliseconds))


def _utc_ms(day: dt.datetime) -> float:
    return day.replace(tzinfo=dt.UTC).timestamp() * 1000


license_.add_command(issue_licence)
license_.add_command(verify_licence)
license_.add_command(issuer)

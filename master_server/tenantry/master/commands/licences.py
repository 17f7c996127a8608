"""``tenantry-master license``: the Master's licence on its own machine, and the issuers that this machine trusts."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tenantry.master.commands.options import configured
from tenantry.master.config import MasterConfig
from tenantry.process.files import private_directory, write_public
from tenantry.protocol.failures import LicenceInvalid, LicenceMissing
from tenantry.protocol.licences import DAY_MS, MAX_TENANTS, MAX_TEXT

if TYPE_CHECKING:
    from tenantry.licensing.signing import IssuerKey
    from tenantry.master.operations.licensing import LicenceBook, Standing
    from tenantry.master.sql.transaction import Transaction
    from tenantry.protocol.licences import Licence

EVALUATION_DAYS: Final = 30
EVALUATION_TENANTS: Final = 5
_FILE: Final = click.Path(path_type=Path, dir_okay=False)


@click.group("license")
def license_() -> None:
    """Request, install and show this Master's licence; say whose licences count here.

    A licence decides about what is new: Tenants, enrolment keys, joins. What runs goes on without one.
    """


@license_.command()
@click.argument("file", type=_FILE, required=False)
@click.option("--holder", default="", metavar="NAME", help="For whom the licence shall be.")
@click.option("--tenants", type=click.IntRange(0, MAX_TENANTS), default=0, metavar="N", help="For how many Tenants.")
@click.option("--module", "modules", multiple=True, metavar="NAME", help="For this module; may be repeated.")
@configured
def request(config: MasterConfig, file: Path | None, holder: str, tenants: int, modules: tuple[str, ...]) -> None:
    """Write the request for an issuer into FILE, or print it. Works while the Master runs, and without a network."""
    from tenantry.master.commands.stores import beside_master
    from tenantry.master.operations.clocks import wall_ms
    from tenantry.master.operations.licensing import own_fingerprint
    from tenantry.protocol.licences import LicenceKind, LicenceRequest, encode_request

    with beside_master(config) as transaction:
        fingerprint = own_fingerprint(transaction)
    wanted = LicenceRequest(LicenceKind.MASTER, fingerprint, wall_ms(), holder, tenants, tuple(sorted(set(modules))))
    text = encode_request(wanted)
    if file is None:
        click.echo(text, nl=False)
        return
    write_public(file.absolute(), text.encode("ascii"))
    click.echo(f"the request is in {file}; `tenantry license issue` makes a licence from it", err=True)


@license_.command()
@click.argument("file", type=_FILE)
@configured
def install(config: MasterConfig, file: Path) -> None:
    """Install the licence FILE of this Master. Only while it is stopped; `tenantry license install` asks a running one."""
    from tenantry.master.commands.stores import stopped_master
    from tenantry.master.commands.tokens import local_actor
    from tenantry.master.operations import licensing
    from tenantry.master.operations.clocks import wall_ms

    text = _read(file)
    with stopped_master(config) as database, database.write() as transaction:
        licence = licensing.install(transaction, _book(config), local_actor(), text, wall_ms())
    click.echo(f"installed {licence.serial}: {_describe(licence)}", err=True)


@license_.command()
@configured
def show(config: MasterConfig) -> None:
    """Show what is installed and what is in force. Ends with 5 when nothing new is let in."""
    from tenantry.master.commands.stores import beside_master
    from tenantry.master.operations.clocks import wall_ms

    with beside_master(config) as transaction:
        standing = _book(config).standing(transaction, wall_ms())
    click.echo("\n".join(_lines(standing)))
    if standing.active is None:
        raise standing.refusal or LicenceMissing(cause="none is installed")


@license_.command()
@click.argument("file", type=_FILE)
@configured
def trust(config: MasterConfig, file: Path) -> None:
    """Let the licences of the issuer in FILE (`tenantry license issuer export`) count here, from now on.

    A decision of this machine alone: nobody can take it over the network. A running Master takes it up by itself.
    """
    from tenantry.licensing.issuers import TrustFile, decode_issuer
    from tenantry.master.operations.clocks import wall_ms

    issuer = decode_issuer(_read(file))
    private_directory(config.licensing_dir)
    TrustFile(config.issuers_file).trust(issuer, wall_ms())
    _note_trust(config)
    click.echo(f"licences of {issuer.name} (key {issuer.kid}) count here now", err=True)


@license_.command()
@click.argument("kid", metavar="KEY-ID")
@configured
def distrust(config: MasterConfig, kid: str) -> None:
    """Let licences that were signed with this issuer's key (`issuers` shows the ids) count nothing here, for good."""
    from tenantry.licensing.issuers import TrustFile
    from tenantry.master.operations.clocks import wall_ms

    revoked = TrustFile(config.issuers_file).revoke(kid, wall_ms())
    _note_trust(config)
    click.echo(f"licences of the key {kid} of {revoked.issuer.name} count nothing here any more", err=True)


@license_.command()
@configured
def issuers(config: MasterConfig) -> None:
    """List the issuers whose licences count here: key id, since when, revoked or not, kinds, name."""
    from tenantry.licensing.issuers import TrustFile

    for one in TrustFile(config.issuers_file).read():
        state = "trusted" if one.revoked_ms is None else f"revoked {_day(one.revoked_ms)}"
        kinds = ",".join(sorted(one.kinds))
        click.echo(f"{one.issuer.kid}  {_day(one.trusted_ms)}  {state:18}  {kinds:26}  {one.issuer.name}")


def license_at_birth(
    config: MasterConfig, transaction: "Transaction", issuer_key: "IssuerKey | None", tenants: int, days: int, now: int
) -> "Licence | None":
    """A new Master's first licence: by an issuer's key, or for evaluation by a key that is thrown away."""
    from tenantry.licensing.issuers import TrustFile
    from tenantry.licensing.signing import generate_issuer, issue
    from tenantry.master.commands.tokens import local_actor
    from tenantry.master.operations import licensing
    from tenantry.protocol.licences import LicenceKind, LicenceRequest

    if transaction.licences.own():
        return _book(config).standing(transaction, now).active
    key = issuer_key or generate_issuer("Evaluation of this Master")
    private_directory(config.licensing_dir)
    kinds = frozenset(LicenceKind) if issuer_key is not None else frozenset({LicenceKind.MASTER})
    TrustFile(config.issuers_file).trust(key.issuer, now, kinds)
    asked = LicenceRequest(LicenceKind.MASTER, licensing.own_fingerprint(transaction), now)
    text = issue(
        asked,
        key,
        holder=config.public_hosts[0],
        lifetime_ms=days * DAY_MS,
        now_ms=now,
        tenants=tenants,
        evaluation=issuer_key is None,
    )
    return licensing.install(transaction, _book(config), local_actor(), text, now)


def read_issuer_key(path: Path, passphrase_file: Path | None) -> "IssuerKey":
    """An issuer's key, with its passphrase from a file or from the terminal. Raises CommandRefused, LicenceInvalid, OSError."""
    from tenantry.licensing.signing import PassphraseWrong, is_encrypted, load_issuer_key
    from tenantry.master.commands.outcomes import CommandRefused
    from tenantry.process.files import read_private
    from tenantry.protocol.failures import EXIT_DENIED

    passphrase = None
    if passphrase_file is not None:
        passphrase = read_private(passphrase_file.absolute()).decode().rstrip("\n")
    elif is_encrypted(path.absolute()):
        passphrase = _ask_passphrase()
    try:
        return load_issuer_key(path.absolute(), passphrase)
    except PassphraseWrong as wrong:
        raise CommandRefused(str(wrong), "Name its file with --issuer-passphrase-file.", EXIT_DENIED) from None


def _ask_passphrase() -> str:
    """From a terminal, or a line of stdin where there is none. Raises CommandRefused."""
    from tenantry.master.commands.outcomes import CommandRefused
    from tenantry.protocol.failures import EXIT_USAGE

    if sys.stdin.isatty():
        typed: str = click.prompt("Passphrase of the issuer's key", hide_input=True, err=True)
        return typed
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        hint = "Write it to stdin, or name its file with --issuer-passphrase-file."
        raise CommandRefused("the issuer's key needs a passphrase, and nobody is there to type it", hint, EXIT_USAGE)
    return line


def _note_trust(config: MasterConfig) -> None:
    """Write the change into the audit. A running Master does it by itself, and one that cannot be opened now when it starts."""
    from tenantry.licensing.issuers import TrustFile
    from tenantry.master.commands.outcomes import CommandRefused
    from tenantry.master.commands.stores import stopped_master
    from tenantry.master.commands.tokens import local_actor
    from tenantry.master.operations.clocks import wall_ms
    from tenantry.master.operations.trusting import note_trust, trust_of
    from tenantry.master.sql.refusals import StoreRefused

    trust = trust_of(TrustFile(config.issuers_file).read(), config.openid)
    with (
        contextlib.suppress(CommandRefused, StoreRefused),
        stopped_master(config) as database,
        database.write() as transaction,
    ):
        note_trust(transaction, local_actor(), trust, wall_ms())


def _book(config: MasterConfig) -> "LicenceBook":
    from tenantry.licensing.issuers import TrustFile
    from tenantry.master.operations.licensing import LicenceBook

    return LicenceBook(TrustFile(config.issuers_file).read)


def _read(file: Path) -> str:
    with file.open("rb") as source:
        data = source.read(MAX_TEXT + 1)
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise LicenceInvalid(problem=f"{file} is no text") from None


def _lines(standing: "Standing") -> list[str]:
    lines = [f"fingerprint  {standing.fingerprint}"]
    if standing.active is not None:
        lines.append(f"in force     {standing.active.serial}: {_describe(standing.active)}")
        lines.append(f"covered      until {_day(standing.covered_until_ms)}")
        lines.append(f"tenants      {standing.used} of {standing.active.tenants}")
    else:
        lines.append("in force     none: no Tenant can be registered or join; what runs goes on")
        lines.append(f"tenants      {standing.used}")
    for one in standing.installed:
        state = one.problem or ("" if one.licence is None else _describe(one.licence))
        lines.append(f"installed    {one.stored.serial}: {state}")
    return lines


def _describe(licence: "Licence") -> str:
    purpose = " for evaluation" if licence.evaluation else ""
    modules = f", modules {', '.join(licence.modules)}" if licence.modules else ""
    return (
        f"{licence.tenants} Tenants{purpose}, held by {licence.holder}, "
        f"{_day(licence.not_before_ms)} to {_day(licence.not_after_ms)}{modules}"
    )


def _day(milliseconds: int) -> str:
    import datetime as dt

    return dt.datetime.fromtimestamp(milliseconds // 1000, dt.UTC).strftime("%Y-%m-%d")

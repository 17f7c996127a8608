"""license request, install, show, remove: the licence of a running Master. What needs no Master is in `licence_issuing`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tenantry.cli.commands.choices import yes_option
from tenantry.cli.confirmation import confirm
from tenantry.cli.invocation import Invocation, Noun, pass_invocation

if TYPE_CHECKING:
    from tenantry.cli.output import Cell
    from tenantry.v1 import licence_service_pb2 as pb

FILE: Final = click.Path(path_type=Path, dir_okay=False)


@click.group("license", cls=Noun)
def license_() -> None:
    """Licences: ask for one, issue, install, show and verify them; issuers' keys.

    A Master's licence decides about what is new: Tenants, enrolment keys, joins. What runs goes on without one.
    """


@license_.command("request")
@click.argument("file", type=FILE, required=False)
@click.option("--holder", default="", metavar="NAME", help="For whom the licence shall be.")
@click.option("--tenants", type=click.IntRange(0), default=0, metavar="N", help="For how many Tenants.")
@click.option("--module", "modules", multiple=True, metavar="NAME", help="For this module; may be repeated.")
@pass_invocation
def request_licence(
    invocation: Invocation, file: Path | None, holder: str, tenants: int, modules: tuple[str, ...]
) -> None:
    """Write the Master's request for an issuer into FILE, or print it. It holds a fingerprint and these wishes, nothing else."""
    from tenantry.process.files import write_public
    from tenantry.v1 import licence_service_pb2

    with invocation.connect() as master:
        wishes = licence_service_pb2.RequestLicenceRequest(holder=holder, tenants=tenants, modules=modules)
        text = master.call(master.licences.RequestLicence, wishes).request
    if file is None:
        click.echo(text, nl=False)
        return
    write_public(file.absolute(), text.encode("ascii"))
    invocation.printer().document(
        {"file": str(file)},
        lambda: [f"The request is in {file}. `tenantry license issue {file}` makes a licence from it."],
    )


@license_.command("install")
@click.argument("file", type=FILE)
@pass_invocation
def install_licence(invocation: Invocation, file: Path) -> None:
    """Install the licence FILE on the Master. Its issuer must be trusted there (`tenantry-master license trust`)."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.escaping import escape
    from tenantry.v1 import licence_service_pb2

    text = read_licence_file(file)
    with invocation.connect() as master:
        request = licence_service_pb2.InstallLicenceRequest(licence=text)
        licence = master.call(master.licences.InstallLicence, request).licence
    invocation.printer().document(
        to_plain(licence), lambda: [f"Licence {escape(licence.serial)} is installed.", *_about(licence)]
    )


@license_.command("show")
@pass_invocation
def show_licence(invocation: Invocation) -> None:
    """What is installed on the Master, what is in force, how much of it is used."""
    from tenantry.cli.documents import to_plain
    from tenantry.v1 import licence_service_pb2

    with invocation.connect() as master:
        shown = master.call(master.licences.GetLicence, licence_service_pb2.GetLicenceRequest())
    printer = invocation.printer()
    printer.document(to_plain(shown), lambda: list(printer.details(_standing(shown))))


@license_.command("remove")
@click.argument("serial")
@yes_option
@pass_invocation
def remove_licence(invocation: Invocation, serial: str, confirmed: bool) -> None:
    """Take an installed licence away from the Master."""
    from tenantry.cli.escaping import escape
    from tenantry.v1 import licence_service_pb2

    confirm(confirmed, [f"Without the licence {escape(serial)} there may be no room for new Tenants."], "Go on?")
    with invocation.connect() as master:
        master.call(master.licences.RemoveLicence, licence_service_pb2.RemoveLicenceRequest(serial=serial))
    invocation.printer().document({"removed": serial}, lambda: [f"Licence {escape(serial)} is removed."])


def read_licence_file(file: Path) -> str:
    """The text of a licence or a request. Raises LicenceInvalid, OSError."""
    from tenantry.protocol.failures import LicenceInvalid
    from tenantry.protocol.licences import MAX_TEXT

    with file.open("rb") as source:
        data = source.read(MAX_TEXT + 1)
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise LicenceInvalid(problem=f"{file} is no text") from None


def _standing(shown: pb.GetLicenceResponse) -> list[tuple[str, Cell | str]]:
    from tenantry.cli.moments import local_time, timestamp_ms
    from tenantry.cli.output import Cell

    pairs: list[tuple[str, Cell | str]] = [("fingerprint", shown.fingerprint)]
    if shown.HasField("active"):
        limit = shown.active.tenants
        full = "red" if shown.tenants_used >= limit else None
        pairs += [("in force", Cell(shown.active.serial, "green"))]
        pairs += [("", line) for line in _about(shown.active)]
        pairs += [("covered until", local_time(timestamp_ms(shown.covered_until)))]
        pairs += [("tenants", Cell(f"{shown.tenants_used} of {limit}", full))]
    else:
        pairs += [("in force", Cell(f"none: {shown.refusal_text}", "red")), ("tenants", str(shown.tenants_used))]
    for one in shown.installed:
        if one.serial != shown.active.serial:
            end = local_time(timestamp_ms(one.licence.not_after)) if one.HasField("licence") else ""
            pairs.append(("installed", f"{one.serial} {one.problem or f'until {end}'}"))
    return pairs


def _about(licence: pb.Licence) -> list[str]:
    from tenantry.cli.moments import local_time, timestamp_ms

    purpose = " for evaluation" if licence.evaluation else ""
    modules = f", modules {', '.join(licence.modules)}" if licence.modules else ""
    return [
        f"{licence.tenants} Tenants{purpose}, held by {licence.holder}{modules}",
        f"{local_time(timestamp_ms(licence.not_before))} to {local_time(timestamp_ms(licence.not_after))}",
    ]

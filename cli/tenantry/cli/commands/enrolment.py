"""Showing once what a Tenant needs to join."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from tenantry.cli.documents import to_plain
from tenantry.cli.escaping import escape
from tenantry.cli.moments import local_time, timestamp_ms
from tenantry.cli.output import Printer
from tenantry.cli.troubles import LocalFileUnusable
from tenantry.process.files import write_private
from tenantry.v1 import tenant_pb2 as pb
from tenantry.v1 import tenant_service_pb2 as service_pb


def would_write(join_file: Path | None) -> None:
    """Raises LocalFileUnusable when the join string could not be written there: before a key is made, not after."""
    if join_file is None:
        return
    if join_file.exists():
        raise LocalFileUnusable(f"{join_file} exists already", "Remove it, or name another file.")
    if not join_file.absolute().parent.is_dir():
        raise LocalFileUnusable(f"there is no folder {join_file.absolute().parent}", "Make it first.")


def show_enrolment(
    printer: Printer, tenant: pb.Tenant, enrolment: service_pb.Enrolment, join_file: Path | None
) -> None:
    """Print a Tenant with its enrolment; with `join_file` the secret goes there instead."""
    plain = to_plain(enrolment)
    if join_file is not None:
        try:
            write_private(join_file, enrolment.join_string.encode() + b"\n")
        except OSError as error:
            raise LocalFileUnusable(
                f"the Tenant is registered, but {join_file} could not be written: {error.strerror}",
                f"`tenantry tenant rekey {tenant.guid}` makes a new key.",
            ) from None
        del plain["join_string"], plain["key"]
        plain["join_file"] = str(join_file)
    printer.document(
        {"tenant": to_plain(tenant), "enrolment": plain}, lambda: _lines(printer, tenant, enrolment, join_file)
    )
    if printer.for_people and join_file is None:
        note = "The join string holds the key: it works once and is never shown again."
        click.echo(printer.paint(note, "yellow"), err=True)


def _lines(
    printer: Printer, tenant: pb.Tenant, enrolment: service_pb.Enrolment, join_file: Path | None
) -> Iterator[str]:
    yield from printer.details(
        [
            ("Tenant", f"{tenant.tenant_name}/{tenant.instance_name}"),
            ("GUID", tenant.guid),
            ("Master", enrolment.master_address),
            ("CA fingerprint", enrolment.ca_fingerprint),
            ("Key works until", local_time(timestamp_ms(enrolment.expire_time))),
        ]
    )
    yield ""
    if join_file is not None:
        yield escape(f"The join string is in {join_file}. On the Tenant's machine:")
        yield ""
        yield f"  tenantry-daemon join --key-file {escape(join_file.name)}"
    else:
        yield "On the Tenant's machine run `tenantry-daemon join` and give it this line:"
        yield ""
        yield escape(enrolment.join_string)

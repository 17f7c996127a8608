"""tenant export, import: settings of one Tenant as a file, and a copy of them at another."""

from __future__ import annotations

from typing import IO, Final

import click

from tenantry.cli.commands.choices import etag_option, tenant_argument
from tenantry.cli.commands.tenant_edit import changed_paths, settings_form, take_over
from tenantry.cli.invocation import Invocation, Verb, pass_invocation

_ITS_OWN: Final = ("tenant_name", "instance_name")
"""What a copy leaves as it is: names tell Tenants apart."""


@click.command("export", cls=Verb)
@tenant_argument
@pass_invocation
def export_tenant(invocation: Invocation, reference: str) -> None:
    """Print a Tenant's settings as a file that `tenant import` reads: YAML, or JSON with --output json."""
    import json

    import yaml

    from tenantry.cli.references import find_tenant

    with invocation.connect() as master:
        form = settings_form(find_tenant(master, reference))
    as_json = invocation.output == "json"
    click.echo(
        json.dumps(form, indent=2) if as_json else yaml.safe_dump(form, sort_keys=False, allow_unicode=True), nl=as_json
    )


@click.command("import", cls=Verb)
@tenant_argument
@click.option("-f", "--file", "source", type=click.File(), required=True, help="YAML or JSON; - reads from stdin.")
@etag_option
@pass_invocation
def import_tenant(invocation: Invocation, reference: str, source: IO[str], etag: str) -> None:
    """Give a Tenant the settings of another one: a copy, without the names. Nothing binds the two afterwards."""
    from google.protobuf.field_mask_pb2 import FieldMask

    from tenantry.cli.documents import to_plain
    from tenantry.cli.references import find_tenant
    from tenantry.cli.tenant_view import one_line
    from tenantry.v1 import tenant_pb2, tenant_service_pb2

    text = source.read()
    with invocation.connect() as master:
        found = find_tenant(master, reference)
        wanted = tenant_pb2.Tenant()
        wanted.CopyFrom(found)
        take_over(wanted, text, source.name)
        for name in _ITS_OWN:
            setattr(wanted, name, getattr(found, name))
        paths = changed_paths(found, wanted)
        if paths:
            wanted.etag = etag or found.etag
            request = tenant_service_pb2.UpdateTenantRequest(tenant=wanted, update_mask=FieldMask(paths=paths))
            found = master.call(master.tenants.UpdateTenant, request).tenant
    said = f"Copied {', '.join(paths)} to" if paths else "Nothing to change at"
    invocation.printer().document(to_plain(found), lambda: [f"{said} {one_line(found)}."])

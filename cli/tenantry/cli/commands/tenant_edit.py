"""tenant edit: what an operator may change of a Tenant, by options or in an editor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from tenantry.cli.commands.choices import etag_option, tenant_argument
from tenantry.cli.invocation import Invocation, Verb, pass_invocation
from tenantry.cli.privacy_words import HELP as PRIVACY_HELP
from tenantry.cli.privacy_words import parse_privacy, write_privacy
from tenantry.cli.troubles import InputInvalid

if TYPE_CHECKING:
    from tenantry.v1 import tenant_pb2 as pb


@dataclass(frozen=True, slots=True)
class Changes:
    """The options of `tenant edit` as they were typed; None and empty: leave as it is."""

    tenant_name: str | None
    instance_name: str | None
    description: str | None
    tag: tuple[str, ...]
    untag: tuple[str, ...]
    recipient: tuple[str, ...]
    drop_recipient: tuple[str, ...]
    heartbeat_interval: str | None
    probe_interval: tuple[str, ...]
    disable_probe: tuple[str, ...]
    enable_probe: tuple[str, ...]
    privacy: str | None

    def given(self) -> bool:
        """Whether any option was typed."""
        return any(getattr(self, name) not in (None, ()) for name in self.__slots__)


@click.command("edit", cls=Verb)
@tenant_argument
@click.option("--name", "tenant_name", metavar="TEXT", help="The client's name.")
@click.option("--instance", "instance_name", metavar="TEXT")
@click.option("--description", metavar="TEXT")
@click.option("--tag", multiple=True, metavar="TAG", help="Add a tag; may be repeated, as all that follow.")
@click.option("--untag", multiple=True, metavar="TAG", help="Take a tag away.")
@click.option("--recipient", multiple=True, metavar="MAIL", help="Add a recipient of reports.")
@click.option("--drop-recipient", multiple=True, metavar="MAIL", help="Take a recipient away.")
@click.option("--heartbeat-interval", metavar="DURATION", help="1s to 5m, or `default`.")
@click.option("--probe-interval", multiple=True, metavar="PROBE=DURATION", help="For instance cpu=30s, or cpu=default.")
@click.option("--disable-probe", multiple=True, metavar="PROBE")
@click.option("--enable-probe", multiple=True, metavar="PROBE")
@click.option("--privacy", metavar="WORDS", help=PRIVACY_HELP)
@click.option("--edit", "in_editor", is_flag=True, help="Edit everything in $EDITOR.")
@etag_option
@pass_invocation
def edit_tenant(invocation: Invocation, /, reference: str, in_editor: bool, etag: str, **typed: Any) -> None:
    """Change a Tenant's details or configuration. Refused when somebody else was faster."""
    from google.protobuf.field_mask_pb2 import FieldMask

    from tenantry.cli.documents import to_plain
    from tenantry.cli.editing import require_terminal
    from tenantry.cli.references import find_tenant
    from tenantry.cli.tenant_view import one_line
    from tenantry.v1 import tenant_pb2, tenant_service_pb2

    changes = Changes(**typed)
    if not in_editor and not changes.given():
        raise InputInvalid("nothing to change was named", "See `tenantry tenant edit --help`; --edit opens an editor.")
    if in_editor:
        require_terminal("Name what to change with options; see `tenantry tenant edit --help`.")
    printer = invocation.printer()
    with invocation.connect() as master:
        found = find_tenant(master, reference)
        wanted = tenant_pb2.Tenant()
        wanted.CopyFrom(found)
        _apply(changes, wanted)
        if in_editor:
            _edit(wanted)
        paths = changed_paths(found, wanted)
        if paths:
            wanted.etag = etag or found.etag
            request = tenant_service_pb2.UpdateTenantRequest(tenant=wanted, update_mask=FieldMask(paths=paths))
            found = master.call(master.tenants.UpdateTenant, request).tenant
    said = f"Changed {', '.join(paths)} of" if paths else "Nothing to change at"
    printer.document(to_plain(found), lambda: [f"{said} {one_line(found)}."])


def _apply(changes: Changes, wanted: pb.Tenant) -> None:
    for name in ("tenant_name", "instance_name", "description"):
        value = getattr(changes, name)
        if value is not None:
            setattr(wanted, name, value)
    wanted.tags[:] = _edited(wanted.tags, changes.tag, changes.untag)
    wanted.recipients[:] = _edited(wanted.recipients, changes.recipient, changes.drop_recipient)
    if changes.privacy is not None:
        wanted.privacy.CopyFrom(parse_privacy(changes.privacy))
    configuration = wanted.configuration
    if changes.heartbeat_interval is not None:
        _set_interval(configuration, changes.heartbeat_interval)
    for pair in changes.probe_interval:
        probe, separator, text = pair.partition("=")
        if not separator or not probe:
            raise InputInvalid(f"{pair!r} is not PROBE=DURATION", "Write it like cpu=30s.")
        _set_probe_interval(configuration, probe, text)
    configuration.disabled_probes[:] = _edited(
        configuration.disabled_probes, changes.disable_probe, changes.enable_probe
    )


def _edited(present: Iterable[str], added: Iterable[str], removed: Iterable[str]) -> list[str]:
    gone = set(removed)
    return [value for value in dict.fromkeys([*present, *added]) if value not in gone]


def _set_interval(configuration: pb.TenantConfiguration, text: str) -> None:
    from tenantry.cli.moments import parse_length, to_duration

    if text == "default":
        configuration.ClearField("heartbeat_interval")
    else:
        configuration.heartbeat_interval.CopyFrom(to_duration(parse_length(text)))


def _set_probe_interval(configuration: pb.TenantConfiguration, probe: str, text: str) -> None:
    from tenantry.cli.moments import parse_length, to_duration

    if text == "default":
        configuration.probe_intervals.pop(probe, None)
    else:
        configuration.probe_intervals[probe].CopyFrom(to_duration(parse_length(text)))


def changed_paths(found: pb.Tenant, wanted: pb.Tenant) -> list[str]:
    """The paths of the update mask: what differs."""
    paths = [
        name
        for name in ("tenant_name", "instance_name", "description", "tags", "recipients", "privacy")
        if getattr(found, name) != getattr(wanted, name)
    ]
    before, after = found.configuration, wanted.configuration
    changed: Mapping[str, Callable[[pb.TenantConfiguration], object]] = {
        "heartbeat_interval": lambda one: one.heartbeat_interval.SerializeToString(deterministic=True),
        "probe_intervals": lambda one: {name: value.ToMilliseconds() for name, value in one.probe_intervals.items()},
        "disabled_probes": lambda one: list(one.disabled_probes),
    }
    return paths + [f"configuration.{name}" for name, value in changed.items() if value(before) != value(after)]


def settings_form(tenant: pb.Tenant) -> dict[str, Any]:
    """What may be changed of a Tenant, as plain data that people edit and files hold."""
    from tenantry.cli.moments import duration_ms
    from tenantry.process.durations import format_milliseconds

    configuration = tenant.configuration
    heartbeat = configuration.heartbeat_interval
    return {
        "tenant_name": tenant.tenant_name,
        "instance_name": tenant.instance_name,
        "description": tenant.description,
        "tags": list(tenant.tags),
        "recipients": list(tenant.recipients),
        "heartbeat_interval": format_milliseconds(duration_ms(heartbeat))
        if configuration.HasField("heartbeat_interval")
        else "default",
        "probe_intervals": {
            name: format_milliseconds(duration_ms(value))
            for name, value in sorted(configuration.probe_intervals.items())
        },
        "disabled_probes": list(configuration.disabled_probes),
        "privacy": write_privacy(tenant.privacy),
    }


def _edit(wanted: pb.Tenant) -> None:
    """Let the person edit the fields as YAML in $EDITOR. Raises InputInvalid when what comes back is not understood."""
    import yaml

    from tenantry.cli.editing import edit_text

    document = settings_form(wanted)
    edited = edit_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    take_over(wanted, edited, "what the editor left")


def take_over(wanted: pb.Tenant, text: str, what: str) -> None:
    """Write what a text in the form of `settings_form` says into a Tenant. Raises InputInvalid when it is not understood."""
    import yaml

    document = settings_form(wanted)
    try:
        _take_over(wanted, {**document, **yaml.safe_load(text)}, set(document))
    except (yaml.YAMLError, TypeError, ValueError, AttributeError):
        raise InputInvalid(
            f"{what} is not understood; nothing was changed", "Keep the fields and their kinds."
        ) from None


def _take_over(wanted: pb.Tenant, fields: dict[str, Any], known: set[str]) -> None:
    if set(fields) - known:
        raise ValueError
    for name in ("tenant_name", "instance_name", "description"):
        setattr(wanted, name, fields[name] or "")
    wanted.tags[:] = fields["tags"] or []
    wanted.recipients[:] = fields["recipients"] or []
    configuration = wanted.configuration
    _set_interval(configuration, str(fields["heartbeat_interval"]))
    configuration.probe_intervals.clear()
    for probe, text in (fields["probe_intervals"] or {}).items():
        _set_probe_interval(configuration, probe, str(text))
    configuration.disabled_probes[:] = fields["disabled_probes"] or []
    wanted.privacy.CopyFrom(parse_privacy(str(fields["privacy"])))

"""``tenantry-master audit``: the audit chain recomputed on the store itself, whether or not the Master runs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tenantry.master.commands.options import configured
from tenantry.master.commands.outcomes import CommandRefused
from tenantry.master.config import MasterConfig
from tenantry.protocol.audit_chain import Vouching
from tenantry.protocol.failures import EXIT_CONFLICT, EXIT_LOCAL, EXIT_UNPROVEN

if TYPE_CHECKING:
    from tenantry.master.operations.audit_verification import Verification


@click.group()
def audit() -> None:
    """Work on the audit chain."""


@audit.command()
@click.option(
    "--head",
    "head_files",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    multiple=True,
    metavar="FILE",
    help="Heads that a Tenant has witnessed (audit/heads.jsonl of its data folder), or tokens, one a line. May be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@configured
def verify(config: MasterConfig, head_files: tuple[Path, ...], as_json: bool) -> int:
    """Recompute the whole chain and compare it with all signed heads. Ends with 4 when something is wrong, with 10 when the audit
    contains no signed head at all, so that nothing vouches that it is complete.

    Changes nothing, and needs no stopped Master.
    """
    from tenantry.master.commands.stores import INSTANCE_ID, beside_master
    from tenantry.master.operations.audit_heads import History
    from tenantry.master.operations.audit_verification import verify_chain
    from tenantry.master.pki.audit_key import HeadProver
    from tenantry.master.pki.authority import AuthorityFolder
    from tenantry.master.sql.wall import SNAPSHOT

    shown = [token for path in head_files for token in read_head_file(path)]
    prover = HeadProver(AuthorityFolder(config.pki_dir), config.trust_domain)
    with beside_master(config) as transaction:
        transaction.connection.rollback()
        transaction.connection.execution_options(**SNAPSHOT)  # a running Master goes on meanwhile
        instance = transaction.settings.get(INSTANCE_ID) or ""
        history = History(instance, int(transaction.settings.get("restored_at_ms") or 0))
        state = transaction.audit.state()
        with click.progressbar(length=max(state.tip.sequence, 1), label="verifying", file=_stderr()) as bar:
            done = 0

            def advance(walked: int, _last: int) -> None:
                nonlocal done
                bar.update(walked - done)
                done = walked

            found = verify_chain(transaction, history, prover.prove, shown=shown, progress=advance)
    if as_json:
        click.echo(json.dumps(_plain(found, history.instance), indent=1))
    else:
        for line in _lines(found, history.restored_ms):
            click.echo(line)
    if not found.sound:
        return EXIT_CONFLICT
    return EXIT_UNPROVEN if found.vouching is Vouching.NOBODY else 0


def read_head_file(path: Path) -> list[str]:
    """Tokens from lines that are tokens, or JSON with a ``token``. Raises CommandRefused, OSError."""
    tokens = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        text = line.strip()
        if text.startswith("{"):
            try:
                text = str(json.loads(text)["token"])
            except (ValueError, KeyError):
                raise _no_heads(path) from None
        if text:
            tokens.append(text)
    if not tokens:
        raise _no_heads(path)
    return tokens


def _no_heads(path: Path) -> CommandRefused:
    return CommandRefused(
        f"{str(path)!r} holds no heads", "Name audit/heads.jsonl of a daemon's data folder.", EXIT_LOCAL
    )


def _stderr() -> Any:
    import sys

    return sys.stderr


def _plain(found: "Verification", instance: str) -> dict[str, Any]:
    return {
        "sound": found.sound,
        "instance_id": instance,
        "first": found.state.anchor.sequence + 1,
        "last": found.walked_to,
        "heads_met": found.heads_met,
        "heads_before": found.erased,
        "proven_to": found.proven_to,
        "shown_to": found.shown_to,
        "vouched_for_by": found.vouching.value,
        "finding": None
        if found.finding is None
        else {
            "fault": found.finding.fault.value,
            "sequence": found.finding.sequence,
            "detail": found.finding.detail,
        },
        "unproven_heads": found.unproven,
        "unchained": found.unchained,
        "contradictions": [
            {
                "tenant_guid": one.tenant_guid,
                "sequence": one.sequence,
                "declared": one.declared,
                "found_ms": one.found_ms,
            }
            for one in found.contradictions
        ],
    }


def _lines(found: "Verification", restored_ms: int) -> list[str]:
    import datetime as dt

    lines = [
        f"records {found.state.anchor.sequence + 1} to {found.walked_to} recomputed, {found.heads_met} signed heads met"
    ]
    if found.finding is not None:
        lines.append(f"WRONG: record {found.finding.sequence}: {found.finding.fault.value}; {found.finding.detail}")
    elif found.proven_to < found.walked_to:
        lines.append(f"records {found.proven_to + 1} to {found.walked_to} are not covered by a signed head yet")
    if found.shown_to and found.shown_to < found.walked_to:
        lines.append(f"for records {found.shown_to + 1} to {found.walked_to} no head was shown that is from elsewhere")
    if found.erased:
        lines.append(f"{found.erased} heads are older than what is kept")
    lines += [f"WRONG: a head is not proven: {cause}" for cause in found.unproven]
    if found.unchained:
        lines.append(f"WRONG: {found.unchained} records stand in the audit outside of the chain")
    for one in found.contradictions:
        mark, why = ("note", "; this Master was restored from a backup since") if one.declared else ("WRONG", "")
        lines.append(f"{mark}: Tenant {one.tenant_guid} has witnessed record {one.sequence} otherwise{why}")
    if restored_ms:
        moment = dt.datetime.fromtimestamp(restored_ms // 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        lines.append(f"this Master was restored from a backup on {moment}")
    lines.append(found.vouching.describe() if found.sound else "the audit is NOT what it was")
    return lines

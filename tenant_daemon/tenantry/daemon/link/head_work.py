"""Proving and judging audit heads: what `witness` needs of the certificate library. Runs in a short-lived process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tenantry.daemon.link.heads import HeadArchive, WitnessedHead
from tenantry.daemon.link.identity import IdentityFolder
from tenantry.protocol.audit_chain import Judgement, judge_head
from tenantry.transport.pinning import fingerprint_of
from tenantry.transport.signed_heads import HeadUnproven, verify_head

_END = b"-----END CERTIFICATE-----"


def witness_heads(folder: Path, tokens: Sequence[str], now_ms: int) -> list[dict[str, Any]]:
    """Judge heads in the order in which they came, and keep them. One verdict each. Raises OSError, IdentityDamaged, NotJoined."""
    identity = IdentityFolder(folder)
    trust_domain, roots = identity.load().trust_domain, identity.trust_bundle()
    archive = HeadArchive(folder)
    return [_judge(archive, token, trust_domain, roots, now_ms) for token in tokens]


def _judge(archive: HeadArchive, token: str, trust_domain: str, roots: bytes, now_ms: int) -> dict[str, Any]:
    try:
        proven = verify_head(token, roots, trust_domain)
    except HeadUnproven as error:
        return {"judgement": "unproven", "detail": str(error), "sequence": 0, "news": True}
    known = archive.heads()
    new_authority = proven.root not in {one.root for one in known}
    judgement, detail = judge_head([one.head for one in known], proven.head, new_authority=new_authority)
    witnessed = WitnessedHead(proven.head, token, proven.root, now_ms)
    news = judgement is not Judgement.KNOWN
    if judgement is Judgement.CONTRADICTS:
        news = archive.accuse(witnessed)
    elif news:
        archive.keep(witnessed, split_roots(roots)[proven.root])
    return {"judgement": judgement.name, "detail": detail, "sequence": proven.head.sequence, "news": news}


def split_roots(bundle: bytes) -> dict[str, bytes]:
    """The certificates of a bundle by their fingerprints."""
    pieces = [piece.strip() + b"\n" + _END + b"\n" for piece in bundle.split(_END)[:-1]]
    return {fingerprint_of(piece.decode("ascii")): piece for piece in pieces}

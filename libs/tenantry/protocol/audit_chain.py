"""The chain over a Master's audit: the bytes of a record, how records hang together, and what a head says.

Specified to the byte in docs/audit-chain.md, so that others can verify it::

    d_n = SHA-256(record n)          record n: its canonical text in UTF-8, with its sequence number n and a salt of its own
    h_n = SHA-256(h_(n-1) || d_n)    h_0: 32 zero bytes

The salt makes d_n tell nothing about the record, so that everybody may recompute the chain and only some may read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from operator import lt
from typing import Any, Final

HASH_BYTES: Final = 32
SALT_BYTES: Final = 16
CHAIN_START: Final = bytes(HASH_BYTES)
MAX_SEQUENCE: Final = 1 << 62
_MAX_TIME_MS: Final = 253_402_300_799_999
_MAX_INSTANCE: Final = 64
FIRST_ACTION: Final = "master.init"
"""The deed of the first record of every chain: a Master begins with it."""

_sha256 = hashlib.sha256
_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False).encode
_TAIL: Final = re.compile(
    rb',"received_ms":-?[0-9]{1,19},"salt":"[0-9a-f]{32}","sequence":([1-9][0-9]{0,18}),'
    rb'"tenant":(?:null|"([0-9a-f-]{36})"),"timestamp_ms":-?[0-9]{1,19}\}\Z'
)
_TAIL_BYTES: Final = 256  # more than the longest tail


def canonical_fields(fields: Mapping[str, Any]) -> str:
    """The fields of a record as they enter the chain: JSON, keys in the order of their code points, no white space.

    Raises ValueError for a number that JSON cannot hold.
    """
    return _encode(fields if isinstance(fields, dict) else dict(fields))


def canonical_record(
    fields: str, received_ms: int, salt: bytes, sequence: int, tenant_guid: str | None, timestamp_ms: int
) -> bytes:
    """A record's canonical bytes; ``fields`` as `canonical_fields` wrote them."""
    tenant = "null" if tenant_guid is None else f'"{tenant_guid}"'
    return (
        f'{{"fields":{fields},"received_ms":{received_ms},"salt":"{salt.hex()}","sequence":{sequence},'
        f'"tenant":{tenant},"timestamp_ms":{timestamp_ms}}}'
    ).encode()


def digest_record(record: bytes) -> bytes:
    """d_n: what of a record enters the chain."""
    return _sha256(record).digest()


def extend(before: bytes, record: bytes) -> bytes:
    """h_n from h_(n-1) and the record's canonical bytes."""
    return _sha256(before + _sha256(record).digest()).digest()


def place_of(record: bytes) -> tuple[int, str | None]:
    """The sequence number and the Tenant's GUID that canonical bytes name. Raises ValueError where they are none.

    Read from the end, where everything has a fixed shape: fields can say what they like.
    """
    match = _TAIL.search(record, max(0, len(record) - _TAIL_BYTES))
    if match is None or not record.startswith(b'{"fields":{'):
        raise ValueError("it is no canonical record of an audit chain")
    return int(match[1]), match[2].decode() if match[2] is not None else None


def check_beginning(records: Sequence[bytes]) -> Finding | None:
    """What is wrong with the begin of a chain that nothing was erased of, or None: its first record is that of the Master's making.

    ``records``: the first of the chain, or nothing where there are none.
    """
    if not records:
        return Finding(Fault.BEGINNING, 1, "there are no records, although the making of a Master leaves some")
    try:
        action = json.loads(records[0])["fields"].get("action")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        action = None
    if action == FIRST_ACTION:
        return None
    return Finding(Fault.BEGINNING, 1, "the first record is not that of the Master's making: what was before is gone")


def check_order(first: int, before: int, positions: Sequence[int]) -> Finding | None:
    """What is wrong with the places of records in their stream, or None: they ascend as the numbers do.

    ``first`` is the number of the first record, ``before`` the position of the one before it.
    """
    if not positions or (positions[0] > before and all(map(lt, positions, positions[1:]))):
        return None  # as always: quicker than looking where
    for place, position in enumerate(positions):
        if position <= before:
            return Finding(Fault.ORDER, first + place, "in its stream it stands before a record that came before it")
        before = position
    return None


# --- heads ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain stood at a moment. Times in Unix milliseconds.

    ``restored_ms``: when the Master was restored from a backup last, 0 for never. It names the history: one that goes back
    without a later restore declared in it contradicts.
    """

    instance: str
    sequence: int
    hash: bytes
    time_ms: int
    restored_ms: int = 0


def encode_head(head: Head) -> bytes:
    """What is signed: canonical JSON."""
    return _encode(
        {
            "hash": head.hash.hex(),
            "instance": head.instance,
            "restored_ms": head.restored_ms,
            "sequence": head.sequence,
            "time_ms": head.time_ms,
        }
    ).encode()


def decode_head(payload: bytes) -> Head:
    """The inverse of `encode_head`; nothing but its own output is taken. Raises ValueError."""
    try:
        content: dict[str, Any] = json.loads(payload)
        head = Head(
            content["instance"],
            content["sequence"],
            bytes.fromhex(content["hash"]),
            content["time_ms"],
            content["restored_ms"],
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError("it is no head of an audit chain") from None
    numbers = ((head.sequence, MAX_SEQUENCE), (head.time_ms, _MAX_TIME_MS), (head.restored_ms, _MAX_TIME_MS))
    sound = (
        type(head.instance) is str
        and 0 < len(head.instance) <= _MAX_INSTANCE
        and len(head.hash) == HASH_BYTES
        and all(type(number) is int and 0 <= number <= limit for number, limit in numbers)
    )
    if not sound or encode_head(head) != payload:
        raise ValueError("it is no head of an audit chain")
    return head


# --- walking the chain ------------------------------------------------------------------------------------------------------


class Fault(Enum):
    """What can be wrong with a chain."""

    ALTERED = "record altered"
    MISSING = "records missing"
    UNREADABLE = "record unreadable"
    HEAD = "signed head contradicts"
    CUT = "end missing"
    SURPLUS = "end unknown"
    BEGINNING = "beginning missing"
    ORDER = "out of order"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong; ``sequence`` is where it shows first."""

    fault: Fault
    sequence: int
    detail: str


class Walker:
    """Recomputes a chain from a trusted link on and compares it with what is said of it. Ends at the first fault.

    ``sequence`` and ``hash`` are those of the last link that was proven.
    """

    def __init__(self, sequence: int = 0, chain: bytes = CHAIN_START, heads: Iterable[Head] = ()) -> None:
        """Start behind link ``sequence``; ``heads`` are compared on the way. One that is before the start proves nothing here."""
        self.sequence = sequence
        self.hash = chain
        self.finding: Finding | None = None
        self._heads: dict[int, list[Head]] = {}
        self.heads_met = 0
        self.heads_before: list[Head] = []
        for head in heads:
            if head.sequence < sequence:
                self.heads_before.append(head)
            else:
                self._heads.setdefault(head.sequence, []).append(head)
        self._meet_heads(sequence, chain)

    @property
    def heads_ahead(self) -> list[Head]:
        """Heads that stand behind the end of what was walked."""
        return [head for sequence, heads in sorted(self._heads.items()) if sequence > self.sequence for head in heads]

    def take(self, records: Sequence[bytes], hashes: Sequence[bytes] | None = None) -> bool:
        """Walk over canonical records; ``hashes``: what the store says of each. False once something is wrong."""
        for place, record in enumerate(records):
            try:
                sequence, _ = place_of(record)
            except ValueError as error:
                return self._found(Fault.UNREADABLE, str(error))
            if sequence != self.sequence + 1:
                return self._found(Fault.MISSING, f"record {sequence} comes behind record {self.sequence}")
            if not self._step(_sha256(record).digest(), hashes[place] if hashes is not None else None):
                return False
        return self.finding is None

    def take_composed(self, records: Sequence[bytes], hashes: Sequence[bytes]) -> bool:
        """As `take`, for records that the caller composed with the sequence numbers that come next: far quicker."""
        sha256, chain, heads = _sha256, self.hash, self._heads
        sequence = self.sequence
        if self.finding is not None:
            return False
        for record, said in zip(records, hashes, strict=True):
            after = sha256(chain + sha256(record).digest()).digest()
            if after != said:
                self.sequence, self.hash = sequence, chain
                return self._altered()
            chain = after
            sequence += 1
            if sequence in heads and not self._meet_heads(sequence, chain):
                return False
        self.sequence, self.hash = sequence, chain
        return True

    def take_digests(self, first: int, digests: bytes) -> bool:
        """Walk over the digests of records, 32 bytes each, the first of them record ``first``."""
        if first != self.sequence + 1 or len(digests) % HASH_BYTES:
            return self._found(Fault.MISSING, f"record {first} comes behind record {self.sequence}")
        for start in range(0, len(digests), HASH_BYTES):
            if not self._step(digests[start : start + HASH_BYTES], None):
                return False
        return self.finding is None

    def end(self, sequence: int, chain: bytes) -> Finding | None:
        """The store says that the chain ends here; what is wrong, or None."""
        if self.finding is None:
            if self.sequence < sequence:
                self._found(Fault.CUT, f"the chain shall end with record {sequence}")
            elif self.sequence > sequence:
                self.finding = Finding(Fault.SURPLUS, sequence + 1, f"the chain shall end with record {sequence}")
            elif self.hash != chain:
                self.finding = Finding(Fault.ALTERED, sequence, "the chain ends with another hash than it shall")
        if self.finding is None and self.heads_ahead:
            head = self.heads_ahead[0]
            self.finding = Finding(Fault.CUT, self.sequence + 1, f"a signed head has seen record {head.sequence}")
        return self.finding

    def accuse(self, fault: Fault, detail: str) -> None:
        """Whoever walks has found something wrong behind what was proven."""
        self._found(fault, detail)

    def _step(self, digest: bytes, said: bytes | None) -> bool:
        if self.finding is not None:
            return False
        after = _sha256(self.hash + digest).digest()
        if said is not None and said != after:
            return self._altered()
        self.sequence += 1
        self.hash = after
        return self.sequence not in self._heads or self._meet_heads(self.sequence, after)

    def _meet_heads(self, sequence: int, chain: bytes) -> bool:
        for head in self._heads.get(sequence, ()):
            if head.hash != chain:
                self.finding = Finding(Fault.HEAD, sequence, f"the head signed at {head.time_ms} ms has another hash")
                return False
            self.heads_met += 1
        return True

    def _altered(self) -> bool:
        return self._found(Fault.ALTERED, "its hash is not what record and predecessor give")

    def _found(self, fault: Fault, detail: str) -> bool:
        if self.finding is None:
            self.finding = Finding(fault, self.sequence + 1, detail)
        return False


class Vouching(Enum):
    """Who says that a chain that fits together is also complete."""

    SHOWN = "heads that were shown"
    OWN = "the Master's own heads"
    NOBODY = "nobody"

    @classmethod
    def of(cls, *, kept: int, met: int, shown: int) -> Vouching:
        """By the numbers of records that are kept, of heads that they contain, and of those heads that came from outside."""
        if not kept or not met:
            return cls.NOBODY
        return cls.SHOWN if shown else cls.OWN

    def describe(self) -> str:
        """What a sound chain is worth, for people."""
        if self is Vouching.SHOWN:
            return "the audit is whole: it contains what was witnessed elsewhere"
        if self is Vouching.OWN:
            return (
                "the audit fits together and the heads that this Master keeps; no head from elsewhere was shown, so it is not proven"
                " that nothing was cut off or told anew"
            )
        return (
            "the audit fits together, but NOTHING vouches that it is complete: it contains no signed head; show one that a Tenant"
            " has witnessed"
        )


# --- witnessing -------------------------------------------------------------------------------------------------------------


class Judgement(Enum):
    """What a witness makes of a head that it is shown."""

    FIRST = "the first of its Master"
    NEXT = "continues"
    KNOWN = "known already"
    RESTORED = "goes back, and says that the Master was restored from a backup"
    OTHER_MASTER = "another Master, vouched for by another authority"
    CONTRADICTS = "does not continue what was witnessed"


def judge_head(known: Sequence[Head], offered: Head, *, new_authority: bool) -> tuple[Judgement, str]:
    """Compare a head, whose signature is proven, with all that a witness keeps, in the order in which they came.

    Sequence numbers never go back and a number has one hash, within a history. A later restore begins another history; one that was
    left never goes on. ``new_authority``: none of the known heads was vouched for by the authority of this one.
    """
    if not known:
        return Judgement.FIRST, ""
    same = [head for head in known if head.instance == offered.instance]
    if not same:
        detail = f"it is of the instance {offered.instance}, witnessed was {known[-1].instance}"
        return (Judgement.OTHER_MASTER if new_authority else Judgement.CONTRADICTS), detail
    newest = same[-1]
    for head in same:
        if (head.sequence, head.restored_ms) == (offered.sequence, offered.restored_ms) and head.hash != offered.hash:
            return Judgement.CONTRADICTS, f"record {offered.sequence} has another hash than witnessed"
    if offered.restored_ms < newest.restored_ms:
        return Judgement.CONTRADICTS, "it is of the history before a restore that was witnessed"
    if offered.restored_ms > newest.restored_ms:
        return Judgement.RESTORED, f"witnessed up to record {newest.sequence}, the history shown has {offered.sequence}"
    if offered.sequence < newest.sequence:
        return Judgement.CONTRADICTS, f"it ends with record {offered.sequence}, witnessed was record {newest.sequence}"
    if offered.sequence == newest.sequence:
        return Judgement.KNOWN, ""
    return Judgement.NEXT, ""

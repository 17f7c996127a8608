"""What somebody does to the audit behind the Master's back: each takes a store with a chain, chance, and the scene it lies in.

Naive ones, by somebody who only changes rows, and clever ones, by somebody who has the store, the rules of the chain and even the
Master's key, and makes everything fit again.
"""

import base64
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, Engine, text

from tenantry.master.domain.records import JsonValue, NewRecord, StreamName
from tenantry.master.operations.audit_heads import History, seal
from tenantry.master.operations.audit_verification import verify_chain
from tenantry.master.pki.audit_key import AuditSigner
from tenantry.master.pki.authority import Authority
from tenantry.master.sql.changes import ChangeLog
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.audit_chain import FIRST_ACTION, Head, canonical_record, decode_head, extend
from tests.suites.conftest import NOW

RECORDS = 60
DOMAIN = "tenantry.internal"
HISTORY = History("3f0c2a5e-0000-4000-8000-000000000000", 0)


@dataclass(frozen=True)
class Scene:
    """A store with a chain, the key that signs its heads, and the heads that a Tenant has witnessed."""

    engine: Engine
    signer: AuditSigner
    authority: Authority
    prove: Callable[[str], Head]
    witnessed: tuple[str, ...]
    states: tuple[tuple[int, int, bytes], ...]
    """Of each moment at which a head was signed: number of records, running total of bytes, hash."""


def read_unproven(token: str) -> Head:
    """What a head says, without its proof."""
    payload = token.split(".")[1]
    return decode_head(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def audit_record(number: int, about: int | None) -> NewRecord:
    """A record of the audit, about a Tenant or nobody."""
    fields: dict[str, JsonValue] = {
        "actor": "operator:a",
        "action": FIRST_ACTION if number == 1 else "tenant.maintain",
        "outcome": "done",
        "reason": f"work {number}",
        "n": number,
    }
    return NewRecord(StreamName.AUDIT_MESSAGES, NOW + number, NOW + number, about, fields)


def is_found(scene: Scene, connection: Connection, prove: Callable[[str], Head] | None = None) -> bool:
    """Whether verifying, with what a Tenant has witnessed, finds something wrong."""
    transaction = Transaction(connection, ChangeLog())
    return not verify_chain(transaction, HISTORY, prove or scene.prove, shown=scene.witnessed).sound


def flip(connection: Connection, chance: random.Random, _scene: Scene) -> None:
    """A bit of a record, in whichever column."""
    number = chance.randint(1, RECORDS)
    column = chance.choice(["fields", "timestamp_ms", "received_ms", "chain_salt", "chain_hash", "tenant_id"])
    value = connection.execute(
        text(f"SELECT {column} FROM records WHERE chain_sequence = :n"), {"n": number}
    ).scalar_one()
    if column == "tenant_id":
        changed: object = chance.choice([other for other in (None, 1, 2, 3) if other != value])
    elif isinstance(value, int):
        changed = value ^ (1 << chance.randrange(30))
    else:
        data = bytearray(value.encode() if isinstance(value, str) else value)
        place = chance.randrange(len(data))
        data[place] ^= 1 << chance.randrange(7)  # stays ASCII
        changed = data.decode() if isinstance(value, str) else bytes(data)
    connection.execute(text(f"UPDATE records SET {column} = :v WHERE chain_sequence = :n"), {"v": changed, "n": number})


def delete_some(connection: Connection, chance: random.Random, _scene: Scene) -> None:
    """One or several records from anywhere, perhaps with the count mended."""
    first = chance.randint(1, RECORDS)
    last = min(first + chance.choice([0, 0, 1, 5]), RECORDS)
    gone = connection.execute(
        text("DELETE FROM records WHERE chain_sequence BETWEEN :a AND :b"), {"a": first, "b": last}
    ).rowcount
    if last < RECORDS and chance.random() < 0.5:
        mend_total(connection, -gone)


def hide(connection: Connection, chance: random.Random, _scene: Scene) -> None:
    """A record is put into another stream, where nobody who reads the audit meets it."""
    stream = chance.choice(["alerts", "notifications", "hidden"])
    number = chance.randint(1, RECORDS)
    connection.execute(text("UPDATE records SET stream = :s WHERE chain_sequence = :n"), {"s": stream, "n": number})
    if chance.random() < 0.5:
        mend_total(connection, -1)


def reorder(connection: Connection, chance: random.Random, _scene: Scene) -> None:
    """Two records change places: all of them but the numbers, or only the numbers."""
    one, other = chance.sample(range(1, RECORDS + 1), 2)
    columns = chance.choice(
        [
            ["chain_sequence"],
            ["position"],
            ["fields", "chain_salt", "timestamp_ms", "received_ms", "tenant_id"],
            ["fields"],
        ]
    )
    rows = {
        number: connection.execute(
            text(f"SELECT position, {', '.join(columns)} FROM records WHERE chain_sequence = :n"), {"n": number}
        ).one()
        for number in (one, other)
    }
    if columns == ["position"]:
        swap_positions(connection, rows[one][0], rows[other][0])
        return
    if columns == ["chain_sequence"]:
        connection.execute(text("UPDATE records SET chain_sequence = -1 WHERE position = :p"), {"p": rows[one][0]})
    for target, source in ((other, one), (one, other)):
        assignments = ", ".join(f"{column} = :v{place}" for place, column in enumerate(columns))
        values = {f"v{place}": value for place, value in enumerate(rows[source][1:])}
        connection.execute(
            text(f"UPDATE records SET {assignments} WHERE position = :p"), {**values, "p": rows[target][0]}
        )


def swap_positions(connection: Connection, one: int, other: int) -> None:
    """Two records change places in the stream as its readers see it; the chain stays as it is."""
    for before, after in ((one, -1), (other, one), (-1, other)):
        connection.execute(text("UPDATE records SET position = :a WHERE position = :b"), {"a": after, "b": before})


def erase(connection: Connection, chance: random.Random, scene: Scene) -> None:
    """Everything is erased, counts and heads too; perhaps a Master that runs has begun again since."""
    for statement in ("records WHERE stream = 'auditMessages'", "audit_heads", "totals WHERE name = 'auditMessages'"):
        connection.execute(text(f"DELETE FROM {statement}"))
    transaction = Transaction(connection, ChangeLog())
    for number in range(chance.choice([0, 1, 20])):
        transaction.records.append([audit_record(2 + number, None)])
        seal(transaction, HISTORY, lambda head: scene.signer.sign(head, scene.authority), NOW + number)


def misfile_head(connection: Connection, chance: random.Random, _scene: Scene) -> None:
    """A head is kept under the number of another record, or with another hash or time than it was signed with."""
    numbers = connection.execute(text("SELECT sequence FROM audit_heads")).scalars().all()
    number = chance.choice(numbers)
    free = chance.choice([one for one in range(1, RECORDS) if one not in numbers])
    column, value = chance.choice(
        [("sequence", free), ("hash", os.urandom(32)), ("time_ms", NOW - chance.randint(1, 9))]
    )
    connection.execute(text(f"UPDATE audit_heads SET {column} = :v WHERE sequence = :n"), {"v": value, "n": number})


def truncate(connection: Connection, chance: random.Random, _scene: Scene) -> None:
    """The end is cut off; the heads of what is gone may go as well."""
    kept = chance.randint(0, RECORDS - 1)
    connection.execute(text("DELETE FROM records WHERE chain_sequence > :k"), {"k": kept})
    if chance.random() < 0.5:
        connection.execute(text("DELETE FROM audit_heads WHERE sequence > :k"), {"k": kept})


def insert(connection: Connection, chance: random.Random, _scene: Scene) -> None:
    """A record that nobody made: outside of the chain, behind its end, or in its middle with all others moved."""
    place = chance.choice([None, RECORDS + 1, chance.randint(1, RECORDS)])
    if place is not None and place <= RECORDS:
        connection.execute(
            text("UPDATE records SET chain_sequence = -chain_sequence WHERE chain_sequence >= :p"), {"p": place}
        )
        connection.execute(text("UPDATE records SET chain_sequence = 1 - chain_sequence WHERE chain_sequence < 0"))
    connection.execute(
        text(
            "INSERT INTO records (stream, timestamp_ms, received_ms, fields, chain_sequence, chain_salt, chain_hash)"
            " VALUES ('auditMessages', :t, :t, '{}', :s, :salt, :hash)"
        ),
        {
            "t": NOW,
            "s": place,
            "salt": None if place is None else os.urandom(16),
            "hash": None if place is None else os.urandom(32),
        },
    )


def exchange_head(connection: Connection, chance: random.Random, scene: Scene) -> None:
    """A head that is kept says something else: a flipped character, or another key signed it."""
    row = connection.execute(text("SELECT sequence, token FROM audit_heads ORDER BY random() LIMIT 1")).one()
    if chance.random() < 0.5:
        place = chance.randrange(len(row.token) - 2)
        letter = "A" if row.token[place] != "A" else "B"
        token = row.token[:place] + letter + row.token[place + 1 :]
    else:
        head = read_unproven(row.token)
        forger = AuditSigner(Ed25519PrivateKey.generate(), DOMAIN)
        token = forger.sign(Head(head.instance, head.sequence, os.urandom(32), head.time_ms), scene.authority)
    connection.execute(text("UPDATE audit_heads SET token = :t WHERE sequence = :s"), {"t": token, "s": row.sequence})


def go_back(connection: Connection, chance: random.Random, scene: Scene) -> None:
    """Yesterday's database, complete and sound: only who has witnessed more can know."""
    number, octets, _ = chance.choice(scene.states[:-1])
    connection.execute(text("DELETE FROM records WHERE chain_sequence > :n"), {"n": number})
    connection.execute(text("DELETE FROM audit_heads WHERE sequence > :n"), {"n": number})
    _set_total(connection, number, octets)


def write_second_history(connection: Connection, chance: random.Random, scene: Scene) -> None:
    """From some record on another story, with hashes that fit and heads signed by the Master's own key."""
    first = chance.randint(1, scene.states[-1][0])
    rewrite(connection, first, changed=first, sign=lambda head: scene.signer.sign(head, scene.authority))


def go_back_and_on(connection: Connection, chance: random.Random, scene: Scene) -> None:
    """Yesterday's database, and a day of other records since: longer than what was witnessed, and signed."""
    go_back(connection, chance, scene)
    transaction = Transaction(connection, ChangeLog())
    more = RECORDS - transaction.audit.state().tip.sequence + chance.randint(0, 5)
    transaction.records.append([audit_record(900 + number, None) for number in range(more)])
    seal(transaction, HISTORY, lambda head: scene.signer.sign(head, scene.authority), NOW + 999)


def rewrite(connection: Connection, first: int, *, changed: int, sign: Callable[[Head], str]) -> None:
    """Another text in one record, and from ``first`` on hashes and heads that fit, signed by ``sign``."""
    connection.execute(
        text("UPDATE records SET fields = replace(fields, 'operator:a', 'operator:b') WHERE chain_sequence = :n"),
        {"n": changed},
    )
    guids = {row.id: row.guid for row in connection.execute(text("SELECT id, guid FROM tenants"))}
    chain = bytes(32)
    kept = [read_unproven(row.token) for row in connection.execute(text("SELECT token FROM audit_heads")).all()]
    heads = {head.sequence: head for head in kept}
    for row in connection.execute(
        text("SELECT * FROM records WHERE stream = 'auditMessages' ORDER BY chain_sequence")
    ).all():
        chain = extend(
            chain,
            canonical_record(
                row.fields,
                row.received_ms,
                row.chain_salt,
                row.chain_sequence,
                guids.get(row.tenant_id),
                row.timestamp_ms,
            ),
        )
        values = {"h": chain, "n": row.chain_sequence}
        connection.execute(text("UPDATE records SET chain_hash = :h WHERE chain_sequence = :n"), values)
        if row.chain_sequence in heads and row.chain_sequence >= first:
            known = heads[row.chain_sequence]
            token = sign(Head(known.instance, known.sequence, chain, known.time_ms))
            connection.execute(
                text("UPDATE audit_heads SET token = :t, hash = :h WHERE sequence = :n"), {**values, "t": token}
            )


def mend_total(connection: Connection, change: int) -> None:
    """The count of the stream, so that it says what is there."""
    connection.execute(text("UPDATE totals SET records = records + :c WHERE name = 'auditMessages'"), {"c": change})


def _set_total(connection: Connection, number: int, octets: int) -> None:
    connection.execute(
        text("UPDATE totals SET records = :n, bytes = :b WHERE name = 'auditMessages'"), {"n": number, "b": octets}
    )


TAMPERINGS: Sequence[Callable[[Connection, random.Random, Scene], None]] = (
    flip,
    delete_some,
    hide,
    reorder,
    truncate,
    erase,
    insert,
    exchange_head,
    misfile_head,
    go_back,
    write_second_history,
    go_back_and_on,
)


def try_cases(
    scene: Scene, cases: int, seed: int, prove: Callable[[str], Head] | None = None
) -> tuple[Counter[str], Counter[str]]:
    """Random cases; how many of each kind there were, and how many were not found."""
    tried, missed = Counter[str](), Counter[str]()
    for number in range(cases):
        chance = random.Random(f"{seed}:{number}")
        tampering = TAMPERINGS[number % len(TAMPERINGS)]
        with scene.engine.connect() as connection:
            tampering(connection, chance, scene)
            tried[tampering.__name__] += 1
            missed[tampering.__name__] += not is_found(scene, connection, prove)
            connection.rollback()
    return tried, +missed

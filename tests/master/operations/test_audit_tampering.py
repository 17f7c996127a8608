"""F39: whatever is done to the audit behind the Master's back is found, by verifying it or by what a Tenant has witnessed.

A thousand random cases against one store: naive ones, by somebody who only changes rows, and clever ones, by somebody who has the
store, the rules of the chain and even the Master's key, and makes everything fit again. Seeded bugs show that the cases bite.
"""

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, Engine, text

from tenantry.master.domain.records import JsonValue, NewRecord, StreamName
from tenantry.master.operations import audit_verification
from tenantry.master.operations.audit_heads import History, hear_witness, seal
from tenantry.master.operations.audit_verification import verify_chain
from tenantry.master.pki.audit_key import AuditSigner, HeadProver, load_audit_key
from tenantry.master.pki.authority import Authority, AuthorityFolder
from tenantry.master.sql.changes import ChangeLog
from tenantry.master.sql.database import Database
from tenantry.master.sql.engines import make_engine, parse_dsn
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol import audit_chain
from tenantry.protocol.audit_chain import Head, Judgement, canonical_record, extend, judge_head
from tenantry.transport.signed_heads import read_unproven
from tests.suites.conftest import NOW, new_tenant

RECORDS = 60
CASES = 1_200
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


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Sixty records about three Tenants and about nobody, a head after every few; the last record is covered."""
    folder = tmp_path_factory.mktemp("audit")
    authorities = AuthorityFolder(folder / "pki")
    authority = authorities.create(DOMAIN, NOW)
    signer = AuditSigner(load_audit_key(folder / "pki"), DOMAIN)
    dsn = f"sqlite:///{folder}/master.db"
    chance = random.Random(1)
    witnessed, states = [], []
    with Database.open(dsn) as database:
        with database.write() as transaction:
            tenants = [transaction.tenants.insert(new_tenant(number)).id for number in range(3)]
        for number in range(1, RECORDS + 1):
            with database.write() as transaction:
                about = chance.choice([None, *tenants])
                transaction.records.append([_record(number, about)])
                if number % 7 == 4:
                    head = seal(transaction, HISTORY, lambda one: signer.sign(one, authority), NOW + number)
                    assert head is not None
                    witnessed.append(head.token)
                    state = transaction.audit.state()
                    total = transaction.records.summary(StreamName.AUDIT_MESSAGES)
                    states.append((number, total.bytes, state.tip.hash))
    engine = make_engine(parse_dsn(dsn))
    prover = HeadProver(authorities, DOMAIN)
    yield Scene(engine, signer, authority, lru_cache(maxsize=None)(prover.prove), tuple(witnessed), tuple(states))
    engine.dispose()


def _record(number: int, about: int | None) -> NewRecord:
    fields: dict[str, JsonValue] = {
        "actor": "operator:a",
        "action": "tenant.maintain",
        "outcome": "done",
        "reason": f"work {number}",
        "n": number,
    }
    return NewRecord(StreamName.AUDIT_MESSAGES, NOW + number, NOW + number, about, fields)


def is_found(scene: Scene, connection: Connection, prove: Callable[[str], Head] | None = None) -> bool:
    """Whether verifying, with what a Tenant has witnessed, finds something wrong."""
    transaction = Transaction(connection, ChangeLog())
    return not verify_chain(transaction, HISTORY, prove or scene.prove, shown=scene.witnessed).sound


# --- what somebody does to the store ----------------------------------------------------------------------------------


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
        _mend_total(connection, -gone)


def reorder(connection: Connection, chance: random.Random, _scene: Scene) -> None:
    """Two records change places: all of them but the numbers, or only the numbers."""
    one, other = chance.sample(range(1, RECORDS + 1), 2)
    columns = chance.choice(
        [["chain_sequence"], ["fields", "chain_salt", "timestamp_ms", "received_ms", "tenant_id"], ["fields"]]
    )
    rows = {
        number: connection.execute(
            text(f"SELECT position, {', '.join(columns)} FROM records WHERE chain_sequence = :n"), {"n": number}
        ).one()
        for number in (one, other)
    }
    if columns == ["chain_sequence"]:
        connection.execute(text("UPDATE records SET chain_sequence = -1 WHERE position = :p"), {"p": rows[one][0]})
    for target, source in ((other, one), (one, other)):
        assignments = ", ".join(f"{column} = :v{place}" for place, column in enumerate(columns))
        values = {f"v{place}": value for place, value in enumerate(rows[source][1:])}
        connection.execute(
            text(f"UPDATE records SET {assignments} WHERE position = :p"), {**values, "p": rows[target][0]}
        )


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
    _rewrite(connection, first, changed=first, sign=lambda head: scene.signer.sign(head, scene.authority))


def go_back_and_on(connection: Connection, chance: random.Random, scene: Scene) -> None:
    """Yesterday's database, and a day of other records since: longer than what was witnessed, and signed."""
    go_back(connection, chance, scene)
    transaction = Transaction(connection, ChangeLog())
    more = RECORDS - transaction.audit.state().tip.sequence + chance.randint(0, 5)
    transaction.records.append([_record(900 + number, None) for number in range(more)])
    seal(transaction, HISTORY, lambda head: scene.signer.sign(head, scene.authority), NOW + 999)


def _rewrite(connection: Connection, first: int, *, changed: int, sign: Callable[[Head], str]) -> None:
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


def _mend_total(connection: Connection, change: int) -> None:
    connection.execute(text("UPDATE totals SET records = records + :c WHERE name = 'auditMessages'"), {"c": change})


def _set_total(connection: Connection, number: int, octets: int) -> None:
    connection.execute(
        text("UPDATE totals SET records = :n, bytes = :b WHERE name = 'auditMessages'"), {"n": number, "b": octets}
    )


TAMPERINGS: Sequence[Callable[[Connection, random.Random, Scene], None]] = (
    flip,
    delete_some,
    reorder,
    truncate,
    insert,
    exchange_head,
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


# --- tests --------------------------------------------------------------------------------------------------------------


def test_what_nobody_touched_is_sound(scene: Scene) -> None:
    """No false alarm: everything is recomputed, and every witnessed head is contained."""
    with scene.engine.connect() as connection:
        found = verify_chain(Transaction(connection, ChangeLog()), HISTORY, scene.prove, shown=scene.witnessed)
    assert found.sound
    assert found.walked_to == RECORDS
    assert found.heads_met == 2 * len(scene.witnessed)
    assert found.proven_to == scene.states[-1][0]


def test_f39_a_thousand_random_cases_are_found(scene: Scene) -> None:
    """Flip, delete, reorder, truncate, insert, another head, yesterday's database, a second history: all of them, always."""
    seed = random.randrange(1 << 32)
    tried, missed = try_cases(scene, CASES, seed)
    print(f"seed {seed}: {dict(tried)}")
    assert sum(tried.values()) >= 1_000
    assert not missed, f"seed {seed}: {dict(missed)}"


def test_f39_a_master_that_goes_back_is_told_by_the_next_tenant(scene: Scene) -> None:
    """What the witness shows in Hello becomes evidence, an audit record and an alert, once."""
    for tampering in (go_back, write_second_history, go_back_and_on):
        with scene.engine.connect() as connection:
            tampering(connection, random.Random(5), scene)
            transaction = Transaction(connection, ChangeLog())
            tenant = transaction.tenants.by_id(1)
            token = scene.witnessed[-1]
            for _ in range(2):
                assert not hear_witness(transaction, HISTORY, tenant, scene.prove(token), token, NOW + 10_000)
            (kept,) = transaction.audit.contradictions()
            assert (kept.token, kept.declared) == (token, False)
            (alert,) = transaction.records.last(StreamName.ALERTS, 5)
            assert "does not continue what Tenant" in str(alert.fields["message"])
            assert alert.fields["severity"] == "critical"
            audited = transaction.records.last(StreamName.AUDIT_MESSAGES, 1)[0]
            assert audited.fields["action"] == "audit.contradicted"
            assert is_found(scene, connection)
            connection.rollback()


def test_f39_a_declared_restore_is_told_and_is_not_wrong(scene: Scene) -> None:
    """After a restore from a backup the same is kept as explained: seen by everybody, an alert of less weight."""
    restored = History(HISTORY.instance, NOW + 5_000)
    with scene.engine.connect() as connection:
        go_back(connection, random.Random(3), scene)
        transaction = Transaction(connection, ChangeLog())
        token = scene.witnessed[-1]
        assert not hear_witness(
            transaction, restored, transaction.tenants.by_id(1), scene.prove(token), token, NOW + 6_000
        )
        found = verify_chain(transaction, restored, scene.prove)
        assert found.sound, found
        assert [one.declared for one in found.contradictions] == [True]
        assert transaction.records.last(StreamName.ALERTS, 1)[0].fields["severity"] == "medium"
        connection.rollback()


def test_a_head_that_the_chain_contains_says_nothing(scene: Scene) -> None:
    """All that was witnessed in peace is contained; nothing is written about it."""
    with scene.engine.connect() as connection:
        transaction = Transaction(connection, ChangeLog())
        for token in scene.witnessed:
            assert hear_witness(transaction, HISTORY, transaction.tenants.by_id(1), scene.prove(token), token, NOW)
        assert transaction.audit.contradictions() == []


@pytest.mark.parametrize("kind", ["flip", "reorder", "delete_some", "truncate"])
def test_each_kind_is_found_without_a_witness_where_the_store_alone_can_tell(scene: Scene, kind: str) -> None:
    """Whoever only changes rows is found by the store itself."""
    bare = Scene(scene.engine, scene.signer, scene.authority, scene.prove, (), scene.states)
    tampering = next(one for one in TAMPERINGS if one.__name__ == kind)
    for number in range(50):
        with scene.engine.connect() as connection:
            tampering(connection, random.Random(number), scene)
            assert is_found(bare, connection), number
            connection.rollback()


# --- seeded bugs: each must let something through -------------------------------------------------------------------------


def test_seeded_a_chain_without_the_hash_before_misses_cases(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """If records were hashed alone, whoever cut out the middle and renumbered would not be found."""

    class Alone(audit_chain.Walker):
        def take_composed(self, records: Sequence[bytes], hashes: Sequence[bytes]) -> bool:
            for record, said in zip(records, hashes, strict=True):
                before = self.hash
                self.hash = extend(bytes(32), record)
                if extend(before, record) != said and said != self.hash:
                    return self._altered()
                self.sequence += 1
            return True

    def tamper(connection: Connection) -> None:
        guids = {row.id: row.guid for row in connection.execute(text("SELECT id, guid FROM tenants"))}
        connection.execute(text("DELETE FROM records WHERE chain_sequence = 2"))
        connection.execute(text("DELETE FROM audit_heads"))
        connection.execute(text("UPDATE records SET chain_sequence = 1 - chain_sequence WHERE chain_sequence > 2"))
        connection.execute(text("UPDATE records SET chain_sequence = -chain_sequence WHERE chain_sequence < 0"))
        _mend_total(connection, -1)
        for row in connection.execute(text("SELECT * FROM records WHERE chain_sequence > 0")).all():
            canonical = canonical_record(
                row.fields,
                row.received_ms,
                row.chain_salt,
                row.chain_sequence,
                guids.get(row.tenant_id),
                row.timestamp_ms,
            )
            connection.execute(
                text("UPDATE records SET chain_hash = :h WHERE chain_sequence = :n"),
                {"h": extend(bytes(32), canonical), "n": row.chain_sequence},
            )

    bare = Scene(scene.engine, scene.signer, scene.authority, scene.prove, (), scene.states)
    with scene.engine.connect() as connection:
        tamper(connection)
        assert is_found(bare, connection)
        monkeypatch.setattr(audit_verification, "Walker", Alone)
        assert not is_found(bare, connection)
        connection.rollback()


def test_seeded_heads_without_a_signature_miss_cases(scene: Scene) -> None:
    """If heads were believed as they are, a forger without the key would pass for the Master where nobody witnessed."""
    forger = Ed25519PrivateKey.generate()
    bare = Scene(scene.engine, scene.signer, scene.authority, scene.prove, (), scene.states)
    strange = AuthorityFolder(Path(str(scene.engine.url.database)).parent / "strange").create(DOMAIN, NOW)
    with scene.engine.connect() as connection:
        signer = AuditSigner(forger, DOMAIN)
        _rewrite(connection, 1, changed=1, sign=lambda head: signer.sign(head, strange))
        assert is_found(bare, connection)
        assert not is_found(bare, connection, read_unproven)
        connection.rollback()


def test_seeded_a_witness_that_is_not_asked_misses_cases(scene: Scene) -> None:
    """Without what Tenants have witnessed, yesterday's database is sound: the witness is what finds it."""
    bare = Scene(scene.engine, scene.signer, scene.authority, scene.prove, (), scene.states)
    _, missed = try_cases(bare, 90, 7)
    assert {"go_back", "write_second_history", "go_back_and_on"} <= set(missed)


def test_a_witness_judges_as_its_rules_say() -> None:
    """Forward is fine; back, sideways, another instance and a history that was left are not; a declared restore is."""

    def head(sequence: int, mark: bytes = b"a", restored_ms: int = 0, instance: str = "i") -> Head:
        return Head(instance, sequence, mark * 32, NOW, restored_ms)

    known = [head(5), head(9)]

    def judged(offered: Head, *, new_authority: bool = False) -> Judgement:
        return judge_head(known, offered, new_authority=new_authority)[0]

    assert judge_head([], head(1), new_authority=True)[0] is Judgement.FIRST
    assert judged(head(10)) is Judgement.NEXT
    assert judged(head(9)) is Judgement.KNOWN
    assert judged(head(8)) is Judgement.CONTRADICTS
    assert judged(head(9, b"b")) is Judgement.CONTRADICTS
    assert judged(head(5, b"b")) is Judgement.CONTRADICTS
    assert judged(head(3, b"b", restored_ms=NOW)) is Judgement.RESTORED
    assert judged(head(30, instance="j")) is Judgement.CONTRADICTS
    assert judged(head(30, instance="j"), new_authority=True) is Judgement.OTHER_MASTER
    known.append(head(3, b"b", restored_ms=NOW))
    assert judged(head(4, restored_ms=NOW)) is Judgement.NEXT
    assert judged(head(10)) is Judgement.CONTRADICTS
    assert judged(head(4, restored_ms=NOW + 1)) is Judgement.RESTORED

"""F39: whatever is done to the audit behind the Master's back is found, by verifying it or by what a Tenant has witnessed.

A thousand random cases against one store. Seeded bugs show that the cases bite.
"""

import random
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, text

from tenantry.master.domain.records import StreamName
from tenantry.master.operations import audit_verification
from tenantry.master.operations.audit_heads import History, hear_witness, seal
from tenantry.master.operations.audit_verification import verify_chain
from tenantry.master.pki.audit_key import AuditSigner, HeadProver, load_audit_key
from tenantry.master.pki.authority import AuthorityFolder
from tenantry.master.sql.changes import ChangeLog
from tenantry.master.sql.database import Database
from tenantry.master.sql.engines import make_engine, parse_dsn
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol import audit_chain
from tenantry.protocol.audit_chain import Head, Judgement, Vouching, canonical_record, extend, judge_head
from tests.master.operations.audit_tamperings import (
    DOMAIN,
    HISTORY,
    RECORDS,
    TAMPERINGS,
    Scene,
    audit_record,
    go_back,
    go_back_and_on,
    is_found,
    mend_total,
    read_unproven,
    rewrite,
    try_cases,
    write_second_history,
)
from tests.suites.conftest import NOW, new_tenant

CASES = 1_200


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
                transaction.records.append([audit_record(number, about)])
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


def test_what_nobody_touched_is_sound(scene: Scene) -> None:
    """No false alarm: everything is recomputed, and every witnessed head is contained."""
    with scene.engine.connect() as connection:
        found = verify_chain(Transaction(connection, ChangeLog()), HISTORY, scene.prove, shown=scene.witnessed)
    assert found.sound
    assert found.walked_to == RECORDS
    assert found.heads_met == 2 * len(scene.witnessed)
    assert found.proven_to == scene.states[-1][0]


def test_f39_a_thousand_random_cases_are_found(scene: Scene) -> None:
    """Flip, delete, hide, reorder, truncate, insert, another head, yesterday's database, a second history: all of them, always."""
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


@pytest.mark.parametrize("kind", ["flip", "reorder", "delete_some", "truncate", "erase", "misfile_head"])
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
        mend_total(connection, -1)
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
        rewrite(connection, 1, changed=1, sign=lambda head: signer.sign(head, strange))
        assert is_found(bare, connection)
        assert not is_found(bare, connection, read_unproven)
        connection.rollback()


def test_seeded_a_witness_that_is_not_asked_misses_cases(scene: Scene) -> None:
    """Without what Tenants have witnessed, yesterday's database is sound: the witness is what finds it."""
    bare = Scene(scene.engine, scene.signer, scene.authority, scene.prove, (), scene.states)
    _, missed = try_cases(bare, 90, 7)
    assert {"go_back", "write_second_history", "go_back_and_on"} <= set(missed)


@pytest.mark.parametrize(("check", "missed"), [("check_beginning", "erase"), ("check_order", "reorder")])
def test_seeded_a_check_that_is_left_out_misses_cases(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, check: str, missed: str
) -> None:
    """What was erased as a whole, and records that change places for readers alone, are found by a check each."""
    tampering = next(one for one in TAMPERINGS if one.__name__ == missed)
    bare = Scene(scene.engine, scene.signer, scene.authority, scene.prove, (), scene.states)
    monkeypatch.setattr(audit_verification, check, lambda *_: None)
    found = []
    for number in range(30):
        with scene.engine.connect() as connection:
            tampering(connection, random.Random(number), scene)
            found.append(is_found(bare, connection))
            connection.rollback()
    assert not all(found)


def test_what_nobody_vouches_for_is_said(scene: Scene) -> None:
    """Without a head that is contained a sound chain is not whole; with the Master's own it fits; with a Tenant's it is whole."""
    with scene.engine.connect() as connection:
        transaction = Transaction(connection, ChangeLog())
        shown = verify_chain(transaction, HISTORY, scene.prove, shown=scene.witnessed[:2])
        own = verify_chain(transaction, HISTORY, scene.prove)
        connection.execute(text("DELETE FROM audit_heads"))
        alone = verify_chain(transaction, HISTORY, scene.prove)
        connection.rollback()
    assert [one.vouching for one in (shown, own, alone)] == [Vouching.SHOWN, Vouching.OWN, Vouching.NOBODY]
    assert shown.sound
    assert alone.sound
    assert (shown.shown_to, shown.proven_to) == (scene.states[1][0], scene.states[-1][0])


def test_what_retention_has_erased_is_no_finding(scene: Scene) -> None:
    """The rest is sound from the link on that a head proves; where nothing is left, nobody vouches for anything."""
    with scene.engine.connect() as connection:
        transaction = Transaction(connection, ChangeLog())
        later = NOW + RECORDS + 1
        erased = transaction.audit.erase_before(later, 10)
        rest = verify_chain(transaction, HISTORY, scene.prove)
        transaction.audit.erase_before(later, RECORDS)
        nothing = verify_chain(transaction, HISTORY, scene.prove)
        connection.rollback()
    assert erased == 10
    assert (rest.sound, rest.state.anchor.sequence, rest.vouching) == (True, 10, Vouching.OWN)
    assert (nothing.state.anchor.sequence, nothing.vouching) == (RECORDS, Vouching.NOBODY)


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

import functools
import gc
import hashlib
import random
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc.aio
import pytest

from tenantry.daemon.domain.failures import AlreadyJoined, MasterNotTrusted, MasterUnreachable, OwnCertificateExpired
from tenantry.daemon.licences.folder import LicenceFolder
from tenantry.daemon.link.certificate_process import CertificateProcess
from tenantry.daemon.link.diagnosis import check_own_certificate, diagnose
from tenantry.daemon.link.enrolment import join
from tenantry.daemon.link.identity import Credential, IdentityFolder
from tenantry.daemon.link.renewal import Renewal
from tenantry.process.files import private_directory
from tenantry.protocol.failures import EnrolmentRefused, TenantNotFound, TenantQuarantined
from tenantry.protocol.messages import (
    Configuration,
    ConfigurationPush,
    ConfigurationReport,
    Goodbye,
    GoodbyeReason,
    LossReason,
    NackCause,
    RenewPush,
    StateReport,
    Stream,
    TenantState,
    TrustBundlePush,
    TrustReport,
)
from tests.daemon.fake_master import KEY, FakeMaster, make_master, serve
from tests.daemon.in_process import LAYOUT, joined, order_of, running


@pytest.fixture
async def master(tmp_path: Path) -> AsyncIterator[FakeMaster]:
    """A Master that listens."""
    async with serve(make_master(tmp_path)) as served:
        yield served


async def test_records_reach_the_master_once_and_in_order(tmp_path: Path, master: FakeMaster) -> None:
    """What is accepted is stored, each once, in order, with its layout registered before."""
    async with running(await joined(tmp_path / "d", master)) as link:
        for number in range(40):
            await link.accept(Stream.METRICS, b"%d" % number)
        await link.accept(Stream.ALERTS, b"alert")
        await master.until(lambda: len(master.rows(Stream.METRICS)) == 40 and bool(master.rows(Stream.ALERTS)))
        assert master.rows(Stream.METRICS) == [b"%d" % number for number in range(40)]
        assert master.layouts == {LAYOUT.id: 1}
    assert [goodbye.reason for goodbye in master.goodbyes] == [GoodbyeReason.STOP]
    assert link.heard is True


async def test_nothing_is_sent_in_maintenance_and_everything_after_it(tmp_path: Path, master: FakeMaster) -> None:
    """Records spooled before stay in Maintenance, and leave when the Tenant is active again."""
    master.state = TenantState.MAINTENANCE
    async with running(await joined(tmp_path / "d", master)) as link:
        await link.accept(Stream.METRICS, b"waits")
        await master.until(lambda: bool(master.heartbeats))
        assert not master.rows(Stream.METRICS)
        assert not link.conduct.present.state.sends_data
        await master.enter(TenantState.ACTIVE)
        await master.until(lambda: master.rows(Stream.METRICS) == [b"waits"])
        assert link.conduct.present.state.sends_data


async def test_reconnects_after_any_end_and_resumes(tmp_path: Path, master: FakeMaster) -> None:
    """Links cut again and again lose nothing and repeat nothing."""

    def stored(count: int) -> bool:
        return len(master.rows(Stream.METRICS)) == count

    def greeted(count: int) -> bool:
        return len(master.hellos) >= count

    async with running(await joined(tmp_path / "d", master)) as link:
        for number in range(6):
            await link.accept(Stream.METRICS, b"a%d" % number, b"b%d" % number)
            await master.until(functools.partial(stored, 2 * number + 2))
            seen = len(master.hellos)
            await master.push(None)
            await master.until(functools.partial(greeted, seen + 1))
        records = [b"%s%d" % (name, number) for number in range(6) for name in (b"a", b"b")]
        assert master.rows(Stream.METRICS) == records
        incarnations = [hello.incarnation for hello in master.hellos]
        assert incarnations == sorted(set(incarnations))


async def test_an_ended_link_leaves_no_call_behind(tmp_path: Path, master: FakeMaster) -> None:
    """A call that something still refers to makes gRPC renew its connection for ever, also when nobody uses it any more."""
    folder = await joined(tmp_path / "d", master)
    gc.collect()
    gc.disable()
    try:
        async with running(folder):
            for count in range(1, 4):
                await master.until(functools.partial(lambda wanted: len(master.hellos) >= wanted, count))
                await master.push(TenantNotFound(tenant="x"))
            await master.until(lambda: len(master.hellos) == 4)
            calls = [one for one in gc.get_objects() if isinstance(one, grpc.aio.StreamStreamCall)]
            assert len(calls) == 1
    finally:
        gc.enable()


async def test_swallowed_acks_stop_the_sender_at_its_credits(tmp_path: Path, master: FakeMaster) -> None:
    """Without acks the daemon sends no more than its credits; after the next connection everything is stored once."""
    master.swallow_acks = True
    async with running(await joined(tmp_path / "d", master)) as link:
        for number in range(30):
            await link.accept(Stream.METRICS, b"%d" % number)
        await master.until(lambda: bool(master.heartbeats))
        assert len(master.rows(Stream.METRICS)) < 30 or link.keeper.status.acknowledged_ms is None
        master.swallow_acks = False
        await master.push(None)
        await master.until(lambda: len(master.rows(Stream.METRICS)) == 30)
        assert master.rows(Stream.METRICS) == [b"%d" % number for number in range(30)]


@pytest.mark.parametrize("cause", [NackCause.STORE_UNAVAILABLE, NackCause.GAP, NackCause.STATE])
async def test_refused_batches_are_sent_again(tmp_path: Path, master: FakeMaster, cause: NackCause) -> None:
    """A refusal that passes costs time and nothing else."""
    master.refuse_next = [cause, cause]
    async with running(await joined(tmp_path / "d", master)) as link:
        await link.accept(Stream.METRICS, b"a", b"b")
        await master.until(lambda: master.rows(Stream.METRICS) == [b"a", b"b"])


async def test_a_record_that_cannot_be_read_is_declared_lost(tmp_path: Path, master: FakeMaster) -> None:
    """The Master refuses it three times; it becomes a loss with the cause POISONED, and the next one is stored."""
    master.poison = lambda record: record == b"poison"
    async with running(await joined(tmp_path / "d", master)) as link:
        await link.accept(Stream.ALERTS, b"poison", b"sound")
        await master.until(lambda: master.rows(Stream.ALERTS) == [b"sound"])
        (loss,) = master.losses()
        assert (loss.stream, loss.first_seq, loss.last_seq, loss.reason) == (Stream.ALERTS, 1, 1, LossReason.POISONED)


async def test_another_history_makes_a_new_epoch(tmp_path: Path, master: FakeMaster) -> None:
    """When the Master refuses the chain, the daemon declares the old epoch lost and goes on in a new one."""
    async with running(await joined(tmp_path / "d", master)) as link:
        await link.accept(Stream.METRICS, b"a")
        await master.until(lambda: bool(master.rows(Stream.METRICS)))
        old = link.spool.epoch
        master.refuse_next = [NackCause.CHAIN]
        await link.accept(Stream.METRICS, b"b")
        await master.until(lambda: len(master.epochs) == 2)
        await link.accept(Stream.METRICS, b"c")
        await master.until(lambda: master.rows(Stream.METRICS) == [b"a", b"c"])
        assert {lost.epoch for lost in master.hellos[-1].lost_epochs} == {old}


async def test_the_masters_slot_is_obeyed(tmp_path: Path, master: FakeMaster) -> None:
    """After a goodbye with retry_after the daemon comes back, and not before."""
    async with running(await joined(tmp_path / "d", master)):
        await master.until(lambda: master.connected == 1)
        before = time.monotonic()
        await master.push(Goodbye(GoodbyeReason.RESTART, retry_after_ms=700))
        await master.until(lambda: len(master.hellos) == 2)
        assert time.monotonic() - before >= 0.7


async def test_a_pushed_configuration_is_applied_or_refused_as_a_whole(tmp_path: Path, master: FakeMaster) -> None:
    """A sound one runs and survives a restart; one that this machine cannot run is refused and changes nothing."""
    folder = await joined(tmp_path / "d", master)
    good = Configuration(2, 1_000, {"cpu": 2_000})
    bad = Configuration(3, 1_000, {"cpu": 1_000, "flux-capacitor": 5_000})
    async with running(folder) as link:
        await master.until(lambda: master.connected == 1)
        await master.push(ConfigurationPush(good))
        await master.until(lambda: ConfigurationReport(2) in master.reports)
        await master.push(ConfigurationPush(bad))
        await master.until(lambda: len(master.reports) == 3)
        report = master.reports[-1]
        assert isinstance(report, ConfigurationReport)
        assert "flux-capacitor" in report.failure
        assert link.conduct.present.configuration == good
        assert (link.conduct.present.wanted_version, link.conduct.present.failed_version) == (3, 3)
    master.configuration = good
    async with running(folder) as link:
        await master.until(lambda: len(master.hellos) == 2)
        assert master.hellos[-1].configuration_version == 2


async def test_the_certificate_is_renewed_with_a_new_key(tmp_path: Path, master: FakeMaster) -> None:
    """Asked to renew, the daemon gets a new certificate, reconnects with it, and only then lets the old one go."""
    folder = await joined(tmp_path / "d", master)
    before = folder.credentials()[0]
    async with running(folder) as link:
        await master.until(lambda: master.connected == 1)
        await link.accept(Stream.METRICS, b"a")
        master.lose_renewal_reply = True
        await master.push(RenewPush("lost reply"))
        await master.push(RenewPush("again"))
        await master.until(lambda: len(set(master.serials)) == 2)
        await master.until(lambda: master.rows(Stream.METRICS) == [b"a"])
    (after,) = folder.credentials()
    assert after.serial == master.serials[-1] != before.serial
    assert after.private_key != before.private_key
    assert GoodbyeReason.RENEWED in [goodbye.reason for goodbye in master.goodbyes]


async def test_a_renewed_certificate_that_does_not_work_does_not_brick_the_daemon(
    tmp_path: Path, master: FakeMaster
) -> None:
    """As long as the new pair has not connected, the old one gets its turn."""
    folder = await joined(tmp_path / "d", master)
    (tmp_path / "other").mkdir()
    async with serve(make_master(tmp_path / "other")) as stranger:
        foreign = await joined(tmp_path / "f", stranger)
    folder.store_next(foreign.credentials()[0])
    async with running(folder):
        await master.until(lambda: master.connected == 1)


async def test_a_pushed_trust_bundle_is_written_and_reported(tmp_path: Path, master: FakeMaster) -> None:
    """The new roots are on the disk before they are reported; nonsense is refused."""
    folder = await joined(tmp_path / "d", master)
    bundle = master.bundle + make_master(tmp_path / "next").bundle
    async with running(folder):
        await master.until(lambda: master.connected == 1)
        await master.push(TrustBundlePush("nonsense"))
        await master.push(TrustBundlePush(bundle))
        await master.until(lambda: TrustReport(hashlib.sha256(bundle.encode()).digest()) in master.reports)
        assert folder.trust_bundle() == bundle.encode()


async def test_each_pushed_state_is_reported_once_the_daemon_works_by_it(tmp_path: Path, master: FakeMaster) -> None:
    """In the order of the pushes; what Resume told needs no report, as Begin says it."""
    wanted = [TenantState.MAINTENANCE, TenantState.ALERT, TenantState.ALERT, TenantState.ACTIVE]
    async with running(await joined(tmp_path / "d", master)):
        await master.until(lambda: master.connected == 1)
        for state in wanted:
            await master.enter(state)
        await master.until(lambda: master.reports[-1:] == [StateReport(TenantState.ACTIVE)])
        assert [report.state for report in master.reports if isinstance(report, StateReport)] == wanted


async def test_a_quarantined_daemon_says_so_and_waits(tmp_path: Path, master: FakeMaster) -> None:
    """The refusal is kept in words for `status`, and the next attempt is half a minute away."""
    master.quarantined = True
    async with running(await joined(tmp_path / "d", master)) as link:
        began_ms = time.time() * 1000
        await link.until(lambda: link.keeper.status.reconnect_ms is not None)
        assert len(master.hellos) == 1
        assert isinstance(link.keeper.status.trouble, TenantQuarantined)
        assert "a copy, or was rolled back" in link.keeper.status.trouble.advise()
        assert link.keeper.status.reconnect_ms is not None
        assert link.keeper.status.reconnect_ms - began_ms >= 30_000


async def test_a_spool_deleted_under_way_is_declared_on_the_next_link(tmp_path: Path, master: FakeMaster) -> None:
    """The daemon begins a new epoch with the same incarnation, declares the old one, and delivers what comes then."""
    folder = await joined(tmp_path / "d", master)
    async with running(folder) as link:
        await link.accept(Stream.METRICS, b"a")
        await master.until(lambda: bool(master.rows(Stream.METRICS)))
        old = link.spool.epoch
        (folder.folder / "spool.db").unlink()
        await link.accept(Stream.METRICS, b"b")
        await master.until(lambda: master.rows(Stream.METRICS) == [b"a", b"b"])
        assert {lost.epoch for lost in master.hellos[-1].lost_epochs} == {old}
        assert master.hellos[-1].incarnation == 1


async def test_a_lost_answer_to_join_is_repeated_with_the_same_key(tmp_path: Path, master: FakeMaster) -> None:
    """The private key is on the disk before the enrolment key is used up, so that the second try asks for the same certificate."""
    master.lose_enrolment_reply = True
    with pytest.raises(MasterUnreachable):
        await joined(tmp_path / "d", master)
    folder = await joined(tmp_path / "d", master)
    assert len(master.enrolments) == 2
    assert _public_key(master.enrolments[0]) == _public_key(master.enrolments[1])
    assert not (folder.folder / "joining.json").exists()
    for file in folder.folder.rglob("*"):
        assert file.stat().st_mode & 0o077 == 0
        assert file.is_dir() or KEY.encode() not in file.read_bytes()


async def test_join_sends_nothing_to_a_master_with_another_pin(tmp_path: Path, master: FakeMaster) -> None:
    """An impostor gets neither the key nor a request."""
    folder = IdentityFolder(private_directory(tmp_path / "d"))
    with pytest.raises(MasterNotTrusted):
        await join(folder, replace(order_of(master), ca_fingerprint="0" * 64))
    with pytest.raises(MasterNotTrusted):
        await join(folder, replace(order_of(master), ca_certificate=make_master(tmp_path / "other").bundle))
    assert not master.enrolments
    assert not list(folder.folder.iterdir())


async def test_join_refuses_what_the_master_refuses_and_the_folder_of_another(
    tmp_path: Path, master: FakeMaster
) -> None:
    """A wrong key is refused by the Master; a folder that belongs to another Tenant stays as it is."""
    folder = IdentityFolder(private_directory(tmp_path / "d"))
    order = order_of(master)
    with pytest.raises(EnrolmentRefused):
        await join(folder, replace(order, key="tnk_00000000_" + "a" * 43))
    await join(folder, order)
    with pytest.raises(AlreadyJoined):
        await join(folder, replace(order, guid="22222222-2222-4222-8222-222222222222"))
    await join(folder, order)  # the same Tenant may join again


async def test_what_stands_in_the_way_is_named(tmp_path: Path, master: FakeMaster) -> None:
    """Connection refused, a foreign Master and an expired certificate are told apart where gRPC says UNAVAILABLE each time."""
    folder = await joined(tmp_path / "d", master)
    identity, (credential,), bundle = folder.load(), folder.credentials(), folder.trust_bundle()
    address = identity.link_addresses[0]
    refused = await diagnose(identity, credential, bundle, "127.0.0.1:1", "UNAVAILABLE")
    assert isinstance(refused, MasterUnreachable)
    assert "refused" in refused.describe()
    foreign = make_master(tmp_path / "other").bundle.encode()
    assert isinstance(await diagnose(identity, credential, foreign, address, "UNAVAILABLE"), MasterNotTrusted)
    assert isinstance(check_own_certificate(credential, credential.not_after_ms), OwnCertificateExpired)
    assert check_own_certificate(credential, int(time.time() * 1000)) is None
    ended = replace(credential, not_after_ms=1)
    assert isinstance(await diagnose(identity, ended, bundle, address, "UNAVAILABLE"), OwnCertificateExpired)


async def test_an_expired_certificate_is_named_whatever_else_is_wrong(tmp_path: Path, master: FakeMaster) -> None:
    """It ends while the Master is away: that is what an operator has to know, and he learns it at the next attempt."""
    master.lifetime_ms = 1_500
    folder = await joined(tmp_path / "d", master)
    identity = folder.load()
    folder.store(replace(identity, link_addresses=("127.0.0.1:1",)), folder.credentials()[0], folder.trust_bundle())
    async with running(folder) as link:
        await link.until(lambda: link.keeper.status.trouble is not None)
        await link.until(lambda: isinstance(link.keeper.status.trouble, OwnCertificateExpired))
        assert "rekey" in link.keeper.status.trouble.advise()  # type: ignore[union-attr]


def test_renewal_is_due_between_half_and_seventy_percent_of_the_lifetime(tmp_path: Path) -> None:
    """Drawn once a certificate, and spread over a fleet."""
    due = set()
    for seed in range(50):
        renewal = Renewal(random.Random(seed), CertificateProcess(tmp_path), LicenceFolder(tmp_path))
        credential = Credential(b"", b"", f"{seed}", 1_000_000, 2_000_000)
        assert renewal.due_ms(credential) == renewal.due_ms(credential)
        assert 1_500_000 <= renewal.due_ms(credential) <= 1_700_000
        due.add(renewal.due_ms(credential))
    assert len(due) > 40


def _public_key(request: bytes) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = x509.load_der_x509_csr(request).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

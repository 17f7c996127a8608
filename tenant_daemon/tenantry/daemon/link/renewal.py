"""Renewing the certificate before it ends: a new key each time, and the old pair is kept until the new one has connected."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time

import grpc
import grpc.aio
import structlog

from tenantry.daemon.licences.folder import LicenceFolder
from tenantry.daemon.link.certificate_process import CertificateProcess, CertificateWorkFailed
from tenantry.daemon.link.identity import Credential
from tenantry.process.failpoints import failpoint
from tenantry.process.files import FileExposed
from tenantry.protocol.failures import LicenceInvalid
from tenantry.transport.calls import cancelled_by_peer
from tenantry.transport.statuses import failure_of
from tenantry.v1.link_service_pb2 import RenewCertificateRequest
from tenantry.v1.link_service_pb2_grpc import LinkServiceStub

_log = structlog.get_logger(__name__)

EARLIEST, LATEST = 0.5, 0.7
_LONGEST_SLEEP_S = 300.0  # so that a clock that is set does not make us late
_RETRY_S = 3_600.0
_SHORTEST_RETRY_S = 2.0
_TIMEOUT_S = 30.0


class Renewal:
    """When to renew the certificate in use, drawn once for each certificate, so that a fleet spreads out; and renewing it."""

    def __init__(self, chance: random.Random, certificates: CertificateProcess, licences: LicenceFolder) -> None:
        self._chance = chance
        self._certificates = certificates
        self._licences = licences
        self._due_ms: dict[str, int] = {}
        self._asked = asyncio.Event()

    def ask(self, reason: str) -> None:
        """The Master wants it now."""
        _log.info("renewal asked for", reason=reason)
        self._asked.set()

    def due_ms(self, credential: Credential) -> int:
        """The time (Unix ms) at which this one is renewed: at 50 to 70 % of its lifetime."""
        if credential.serial not in self._due_ms:
            lifetime = credential.not_after_ms - credential.not_before_ms
            share = self._chance.uniform(EARLIEST, LATEST)
            self._due_ms = {credential.serial: credential.not_before_ms + int(lifetime * share)}
        return self._due_ms[credential.serial]

    async def obtain(self, channel: grpc.aio.Channel, credential: Credential) -> None:
        """Wait until it is due, then get a new pair and the roots to trust, and store them; tries again for as long as it takes."""
        await self._wait(self.due_ms(credential))
        while True:
            self._asked.clear()
            try:
                serial = await self._renew(channel)
                _log.info("certificate renewed", serial=serial)
                return
            except grpc.aio.AioRpcError as error:
                known = failure_of(error)
                cause = known.describe() if known else f"{error.code().name}: {error.details()}"
            except asyncio.CancelledError:
                if not cancelled_by_peer():
                    raise
                cause = "the Master cancelled the call"
            except CertificateWorkFailed as error:
                cause = str(error)
            left_s = credential.not_after_ms / 1000 - time.time()
            pause_s = max(_SHORTEST_RETRY_S, min(_RETRY_S, left_s / 10))
            _log.warning("renewal failed", cause=cause[:300], retry_s=round(pause_s))
            await self._wait(int((time.time() + pause_s) * 1000))

    async def _renew(self, channel: grpc.aio.Channel) -> str:
        request = RenewCertificateRequest(certificate_request=await self._certificates.make_request())
        with contextlib.suppress(
            OSError, FileExposed
        ):  # the licence comes with the certificate, and does not hold it up
            request.machine_fingerprint = await asyncio.to_thread(self._licences.fingerprint)
            now_ms = time.time_ns() // 1_000_000
            request.licence = await asyncio.to_thread(self._licences.own_for_joining, now_ms)
        response = await LinkServiceStub(channel).RenewCertificate(request, timeout=_TIMEOUT_S)
        failpoint("renew.after_issue")
        serial = await self._certificates.accept(response.certificate_chain, response.trust_bundle)
        if response.licence:
            try:
                await asyncio.to_thread(self._licences.store_handed, response.licence, response.licence_issuer)
            except (OSError, FileExposed, LicenceInvalid) as error:
                _log.warning("licence not kept", cause=str(error)[:300])
        return serial

    async def _wait(self, due_ms: int) -> None:
        while not self._asked.is_set():
            left_s = due_ms / 1000 - time.time()
            if left_s <= 0:
                return
            try:
                async with asyncio.timeout(min(left_s, _LONGEST_SLEEP_S)):
                    await self._asked.wait()
            except TimeoutError:
                continue

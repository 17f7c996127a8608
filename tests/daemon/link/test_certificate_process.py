import stat
import sys
import time
from pathlib import Path

import pytest

from tenantry.daemon.link.certificate_process import CertificateProcess, CertificateWorkFailed
from tenantry.daemon.link.identity import IdentityFolder
from tenantry.master.pki.authority import Authority, AuthorityFolder
from tenantry.master.pki.issuing import issue_tenant_certificate
from tenantry.process.files import private_directory

GUID = "11111111-1111-4111-8111-111111111111"
DOMAIN = "tenantry.internal"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Who issues."""
    return AuthorityFolder(tmp_path / "pki").create(DOMAIN, time.time_ns() // 1_000_000)


@pytest.fixture
def folder(tmp_path: Path) -> IdentityFolder:
    """A folder for an identity."""
    return IdentityFolder(private_directory(tmp_path / "d"))


def issue(authority: Authority, request: bytes) -> str:
    """What a Master answers."""
    now = time.time_ns() // 1_000_000
    return issue_tenant_certificate(authority, request, GUID, DOMAIN, now, 3_600_000).chain_pem.decode()


async def test_a_pair_is_made_without_its_key_leaving_the_folder(folder: IdentityFolder, authority: Authority) -> None:
    """The key waits in a private file for its certificate; then there is a pair to try, and no key besides."""
    process, bundle = CertificateProcess(folder.folder), authority.root_pem.decode()
    request = await process.make_request()
    key_file = folder.folder / "renewal-key.pem"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert b"PRIVATE KEY" in key_file.read_bytes() and b"PRIVATE KEY" not in request
    serial = await process.accept(issue(authority, request), bundle)
    assert not key_file.exists()
    assert folder.trust_bundle() == bundle.encode()
    assert [one.serial for one in folder.credentials()] == [serial]


async def test_an_answer_to_another_request_is_refused(folder: IdentityFolder, authority: Authority) -> None:
    """A certificate for an older key, or nonsense, changes nothing; the next try starts over."""
    process, bundle = CertificateProcess(folder.folder), authority.root_pem.decode()
    first = await process.make_request()
    second = await process.make_request()
    for chain, roots in ((issue(authority, first), bundle), ("nonsense", bundle), (issue(authority, second), "x")):
        with pytest.raises(CertificateWorkFailed):
            await process.accept(chain, roots)
    assert {one.name for one in folder.folder.iterdir()} == {"renewal-key.pem"}
    assert await process.accept(issue(authority, second), bundle)


@pytest.mark.parametrize(
    "program",
    [("/nowhere/python",), (sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"), (sys.executable, "-c", "1/0")],
    ids=["missing", "killed", "broken"],
)
async def test_a_process_that_dies_is_a_failure_in_words(folder: IdentityFolder, program: tuple[str, ...]) -> None:
    """Whatever becomes of it: who ordered it is told, and can order again."""
    with pytest.raises(CertificateWorkFailed, match=r"."):
        await CertificateProcess(folder.folder, program).make_request()
    assert await CertificateProcess(folder.folder).make_request()

from pathlib import Path

import pytest

from tenantry.master.pki.authority import Authority, AuthorityFolder
from tests.master.pki.samples import NOW, TRUST_DOMAIN


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that was made at NOW."""
    return AuthorityFolder(tmp_path_factory.mktemp("authority") / "pki").create(TRUST_DOMAIN, NOW)


@pytest.fixture(scope="session")
def other_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another authority of the same trust domain."""
    return AuthorityFolder(tmp_path_factory.mktemp("other") / "pki").create(TRUST_DOMAIN, NOW)


@pytest.fixture
def folder(tmp_path: Path) -> AuthorityFolder:
    """A `pki` folder that does not exist yet."""
    return AuthorityFolder(tmp_path / "pki")

import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from tenantry.master.pki.authority import Authority, AuthorityDamaged, AuthorityFolder, RootKeyUnavailable
from tenantry.master.pki.issuing import issue_tenant_certificate
from tenantry.process.files import FileExposed
from tenantry.protocol.failures import AuthorityNotFound, FieldInvalid
from tests.master.pki.samples import DAY, GUID, NOW, TRUST_DOMAIN, make_request, verify_client


def _files(path: Path) -> dict[str, int]:
    return {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.iterdir()}


@pytest.mark.parametrize(("role", "path_length"), [("root", 1), ("intermediate", 0)])
def test_authority_certificates_are_as_designed(authority: Authority, role: str, path_length: int) -> None:
    """Both are P-256 authorities with critical constraints, bounded path lengths and identifiers."""
    certificate: x509.Certificate = getattr(authority, role)
    extensions = certificate.extensions
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    assert certificate.signature_hash_algorithm is not None
    assert certificate.signature_hash_algorithm.name == "sha256"
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=path_length)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert usage.value.crl_sign
    assert not usage.value.digital_signature
    subject = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert subject == x509.SubjectKeyIdentifier.from_public_key(key)
    assert certificate.serial_number > 0


def test_the_intermediate_belongs_to_the_root(authority: Authority) -> None:
    """The intermediate names its issuer's key and may issue for TLS only."""
    root_identifier = authority.root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    extensions = authority.intermediate.extensions
    issuer = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert issuer.key_identifier == root_identifier.digest
    assert set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    }
    authority.intermediate.verify_directly_issued_by(authority.root)
    assert authority.root_not_after // DAY - NOW // DAY == 3652
    assert authority.intermediate_not_after // DAY - NOW // DAY == 1095
    assert authority.root.public_key() != authority.intermediate.public_key()


def test_what_was_created_is_loaded_again(folder: AuthorityFolder, tmp_path: Path) -> None:
    """The folder gives the same authority back; its keys are private, its id is the root's fingerprint."""
    assert folder.ids() == []
    made = folder.create(TRUST_DOMAIN, NOW)
    assert folder.ids() == [made.id]
    assert made.fingerprint.startswith(made.id)
    assert len(made.fingerprint) == 64
    loaded = folder.load(made.id)
    assert (loaded.root, loaded.intermediate) == (made.root, made.intermediate)
    assert loaded.key.private_numbers() == made.key.private_numbers()
    assert _files(tmp_path) == {"pki": 0o700}
    assert _files(tmp_path / "pki") == {made.id: 0o700}
    assert _files(tmp_path / "pki" / made.id) == {
        "root.pem": 0o644,
        "root.key": 0o600,
        "intermediate.pem": 0o644,
        "intermediate.key": 0o600,
    }


def test_the_repr_holds_no_key(authority: Authority) -> None:
    """Logging an authority does not give its key away."""
    assert "key" not in repr(authority).lower().replace("publickey", "")


def test_two_authorities_are_told_apart(folder: AuthorityFolder) -> None:
    """Two authorities of one trust domain have different ids and subjects, so that verifiers do not mix them up."""
    first, second = folder.create(TRUST_DOMAIN, NOW), folder.create(TRUST_DOMAIN, NOW)
    assert folder.ids() == sorted([first.id, second.id])
    subjects = {certificate.subject for made in (first, second) for certificate in (made.root, made.intermediate)}
    assert len(subjects) == 4


def test_a_half_written_authority_is_not_picked_up(folder: AuthorityFolder, tmp_path: Path) -> None:
    """What a power cut left is invisible, and its key is removed by the next creation."""
    unfinished = tmp_path / "pki" / ".new-0123456789abcdef"
    unfinished.mkdir(parents=True, mode=0o700)
    (unfinished.parent).chmod(0o700)
    (unfinished / "root.key").write_bytes(b"half a ke")
    assert folder.ids() == []
    with pytest.raises(AuthorityNotFound):
        folder.load(unfinished.name)
    folder.create(TRUST_DOMAIN, NOW)
    assert not unfinished.exists()
    assert len(folder.ids()) == 1


def test_a_foreign_trust_domain_or_id_is_refused(folder: AuthorityFolder, tmp_path: Path) -> None:
    """A trust domain with other characters makes nothing, and an id is no path."""
    with pytest.raises(FieldInvalid):
        folder.create("Tenantry Internal", NOW)
    assert not (tmp_path / "pki").exists()
    for name in ("..", "../pki", "0" * 16, "", "/etc"):
        with pytest.raises(AuthorityNotFound):
            folder.load(name)


def test_an_offline_root_is_enough_to_run(folder: AuthorityFolder, tmp_path: Path) -> None:
    """Without the root's key the authority loads; renewal asks for the key and takes it from elsewhere."""
    made = folder.create(TRUST_DOMAIN, NOW)
    offline = tmp_path / "offline.key"
    (tmp_path / "pki" / made.id / "root.key").rename(offline)
    assert folder.load(made.id).root == made.root
    with pytest.raises(RootKeyUnavailable, match=r"no file .*root\.key"):
        folder.renew_intermediate(made.id, TRUST_DOMAIN, NOW)
    renewed = folder.renew_intermediate(made.id, TRUST_DOMAIN, NOW + 1000 * DAY, offline)
    assert not (tmp_path / "pki" / made.id / "root.key").exists()
    assert renewed.root == made.root
    assert renewed.intermediate_not_after - made.intermediate_not_after == 1000 * DAY
    assert folder.load(made.id).intermediate == renewed.intermediate
    assert "intermediate.key.next" not in _files(tmp_path / "pki" / made.id)


def test_another_roots_key_renews_nothing(folder: AuthorityFolder, tmp_path: Path) -> None:
    """The key of another root is refused before anything is written."""
    made, other = folder.create(TRUST_DOMAIN, NOW), folder.create(TRUST_DOMAIN, NOW)
    with pytest.raises(RootKeyUnavailable, match="another root"):
        folder.renew_intermediate(made.id, TRUST_DOMAIN, NOW, tmp_path / "pki" / other.id / "root.key")
    assert folder.load(made.id).intermediate == made.intermediate


def test_the_intermediate_does_not_outlive_the_root(folder: AuthorityFolder) -> None:
    """A late renewal ends with the root."""
    made = folder.create(TRUST_DOMAIN, NOW)
    renewed = folder.renew_intermediate(made.id, TRUST_DOMAIN, NOW + 3600 * DAY)
    assert renewed.intermediate_not_after == made.root_not_after


def test_certificates_survive_the_renewal_of_their_issuer(folder: AuthorityFolder) -> None:
    """A Tenant's chain of the old intermediate and one of the new both verify against the one root."""
    made = folder.create(TRUST_DOMAIN, NOW)
    request = make_request(ec.generate_private_key(ec.SECP256R1()))
    before = issue_tenant_certificate(made, request, GUID, TRUST_DOMAIN, NOW)
    renewed = folder.renew_intermediate(made.id, TRUST_DOMAIN, NOW)
    after = issue_tenant_certificate(renewed, request, GUID, TRUST_DOMAIN, NOW)
    for issued in (before, after):
        assert verify_client(issued.chain_pem, made, NOW)


@pytest.mark.parametrize("certificate_written", [False, True])
def test_a_renewal_cut_short_leaves_one_whole_authority(
    folder: AuthorityFolder, tmp_path: Path, certificate_written: bool
) -> None:
    """A power cut before the certificate's replacement keeps the old intermediate, one after it the new one."""
    made = folder.create(TRUST_DOMAIN, NOW)
    directory = tmp_path / "pki" / made.id
    old_key = (directory / "intermediate.key").read_bytes()
    old_certificate = (directory / "intermediate.pem").read_bytes()
    renewed = folder.renew_intermediate(made.id, TRUST_DOMAIN, NOW)
    (directory / "intermediate.key").rename(directory / "intermediate.key.next")
    (directory / "intermediate.key").write_bytes(old_key)
    (directory / "intermediate.key").chmod(0o600)
    if not certificate_written:
        (directory / "intermediate.pem").write_bytes(old_certificate)
    expected = renewed if certificate_written else made
    loaded = folder.load(made.id)
    assert loaded.intermediate == expected.intermediate
    assert loaded.key.private_numbers() == expected.key.private_numbers()
    assert folder.load(made.id).intermediate == expected.intermediate
    assert folder.renew_intermediate(made.id, TRUST_DOMAIN, NOW).root == made.root


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("root.pem", b"garbage", "not a certificate"),
        ("intermediate.pem", b"", "not a certificate"),
        ("intermediate.key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "private key"),
        ("root.pem", None, "missing"),
        ("intermediate.key", None, "missing"),
    ],
)
def test_damage_is_named(folder: AuthorityFolder, tmp_path: Path, name: str, content: bytes | None, cause: str) -> None:
    """A missing or damaged part is told with the folder and the file."""
    made = folder.create(TRUST_DOMAIN, NOW)
    path = tmp_path / "pki" / made.id / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(AuthorityDamaged, match=cause) as damage:
        folder.load(made.id)
    assert name in damage.value.cause
    assert damage.value.path == path.parent


@pytest.mark.parametrize("names", [["root.pem"], ["intermediate.pem", "intermediate.key"], ["intermediate.key"]])
def test_parts_of_two_authorities_do_not_mix(folder: AuthorityFolder, tmp_path: Path, names: list[str]) -> None:
    """Files of another authority are noticed, whichever they are."""
    made, other = folder.create(TRUST_DOMAIN, NOW), folder.create(TRUST_DOMAIN, NOW)
    for name in names:
        (tmp_path / "pki" / other.id / name).replace(tmp_path / "pki" / made.id / name)
    with pytest.raises(AuthorityDamaged):
        folder.load(made.id)


def test_a_readable_key_is_refused(folder: AuthorityFolder, tmp_path: Path) -> None:
    """An issuing key that others may read stops the Master."""
    made = folder.create(TRUST_DOMAIN, NOW)
    (tmp_path / "pki" / made.id / "intermediate.key").chmod(0o644)
    with pytest.raises(FileExposed):
        folder.load(made.id)

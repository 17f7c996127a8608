import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenantry.master.commands.archives import Manifest, Member, measure, open_archive, write_archive
from tenantry.master.sql.refusals import BackupUnreadable

AUTHORITY = "0123456789abcdef"
CONTENT = {
    "store": bytes(range(256)) * 20,
    "config.toml": b"credits = 4\n",
    f"pki/{AUTHORITY}/root.pem": b"certificate",
    f"pki/{AUTHORITY}/intermediate.key": b"key",
}


def ignore(_count: int) -> None:
    """Nobody watches."""


def save(folder: Path) -> Path:
    """A backup of CONTENT."""
    sources = {}
    for number, (name, content) in enumerate(CONTENT.items()):
        sources[name] = folder / str(number)
        sources[name].write_bytes(content)
    members = {name: measure(path, ignore) for name, path in sources.items()}
    manifest = Manifest(1_800_000_000_000, "1.0", "instance", "sqlite", "tenantry.internal", members)
    write_archive(folder / "backup", manifest, sources, ignore)
    return folder / "backup"


def restore(path: Path, folder: Path) -> dict[str, bytes]:
    """What a backup holds, verified and extracted."""
    targets: dict[str, Path] = {}

    def target(name: str) -> Path:
        targets[name] = folder / f"out{len(targets)}"
        return targets[name]

    with open_archive(path) as archive:
        archive.verify(ignore)
        archive.extract(target, ignore)
    return {name: place.read_bytes() for name, place in targets.items()}


def forge(path: Path, change: Callable[[dict[str, object]], None], extra: tarfile.TarInfo | None = None) -> Path:
    """A backup whose manifest was changed, perhaps with one more member."""
    with tarfile.open(path) as archive:
        members = [(entry, archive.extractfile(entry)) for entry in archive]
        content = [(entry, source.read() if source else b"") for entry, source in members]
    document = json.loads(content[0][1])
    change(document)
    forged = path.with_name("forged")
    with tarfile.open(forged, "w") as archive:
        for entry, data in [(content[0][0], json.dumps(document).encode()), *content[1:]]:
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        if extra is not None:
            archive.addfile(extra)
    return forged


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    """Every member, byte for byte, into private files; the backup itself is private and complete."""
    path = save(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert restore(path, tmp_path) == CONTENT
    assert all((tmp_path / f"out{number}").stat().st_mode & 0o777 == 0o600 for number in range(len(CONTENT)))
    with open_archive(path) as archive:
        assert archive.manifest.instance_id == "instance"
        assert archive.manifest.members["config.toml"] == measure(tmp_path / "1", ignore)


def test_a_backup_is_never_overwritten(tmp_path: Path) -> None:
    """A file that is there stays."""
    path = save(tmp_path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        save(tmp_path)
    assert path.read_bytes() == before


@given(position=st.integers(0, 10_000_000), bit=st.integers(0, 7))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_is_found_or_harmless(tmp_path_factory: pytest.TempPathFactory, position: int, bit: int) -> None:
    """Wherever a bit flips, what is restored is what was saved, or nothing is."""
    folder = tmp_path_factory.mktemp("flip")
    path = save(folder)
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 1 << bit
    path.write_bytes(data)
    try:
        restored = restore(path, folder)
    except BackupUnreadable:
        return
    assert restored == CONTENT


@given(kept=st.integers(0, 10_000_000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_backup_that_was_cut_short_is_refused(tmp_path_factory: pytest.TempPathFactory, kept: int) -> None:
    """Unless only the padding at the end is missing."""
    folder = tmp_path_factory.mktemp("cut")
    path = save(folder)
    data = path.read_bytes()
    path.write_bytes(data[: kept % len(data)])
    try:
        restored = restore(path, folder)
    except BackupUnreadable:
        return
    assert restored == CONTENT


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/passwd", "pki/../../evil", f"pki/{AUTHORITY}/../../x", "run/x", f"pki/{AUTHORITY}/other", ""],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    """A forged manifest cannot name a file outside of what a backup holds."""

    def add(document: dict[str, object]) -> None:
        members = document["members"]
        assert isinstance(members, dict)
        members[name] = {"size": 0, "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}

    forged = forge(save(tmp_path), add, tarfile.TarInfo(name))
    with pytest.raises(BackupUnreadable):
        restore(forged, tmp_path)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE])
def test_only_plain_files_are_read(tmp_path: Path, kind: bytes) -> None:
    """Links and devices are refused, whatever the manifest says."""
    extra = tarfile.TarInfo("pki/0123456789abcdef/root.key")
    extra.type, extra.linkname = kind, "store"

    def add(document: dict[str, object]) -> None:
        members = document["members"]
        assert isinstance(members, dict)
        members[extra.name] = {"size": 0, "sha256": Member(0, "").sha256}

    with pytest.raises(BackupUnreadable):
        restore(forge(save(tmp_path), add, extra), tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"members": {}},
        {"members": None},
        {"members": {"store": {"size": "many", "sha256": ""}}},
        {"created_ms": "yesterday"},
    ],
)
def test_a_manifest_of_another_form_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    """Other formats, missing and damaged parts."""
    forged = forge(save(tmp_path), lambda document: document.update(change))
    with pytest.raises(BackupUnreadable):
        restore(forged, tmp_path)


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0" * 100, bytes(20_000)])
def test_a_file_that_is_no_backup_is_refused(tmp_path: Path, content: bytes) -> None:
    """Empty, another kind of file, and a tar without members."""
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(BackupUnreadable):
        restore(path, tmp_path)

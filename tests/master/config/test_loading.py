from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.master.config import KEYS, Compaction, ConfigurationInvalid, MasterConfig, load, split_listen
from tenantry.master.domain.connectivity import Thresholds
from tenantry.master.domain.keys import DEFAULT_KEY_LIFETIME_MS
from tenantry.master.domain.records import StreamName
from tenantry.protocol.master_link import MAX_TUNNELS_HELD

DAY = 86_400_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder."""
    return tmp_path / "data"


def write(folder: Path, text: str, mode: int = 0o600) -> Path:
    """Put a configuration file into the data folder."""
    folder.mkdir(exist_ok=True)
    path = folder / "config.toml"
    path.write_text(text, "utf-8")
    path.chmod(mode)
    return path


def problems(
    flags: dict[str, object], environment: dict[str, str] | None = None, file: Path | None = None
) -> list[str]:
    """What is objected to."""
    with pytest.raises(ConfigurationInvalid) as caught:
        load(flags, file=file, environment=environment or {})
    return [str(problem) for problem in caught.value.problems]


def test_without_any_source_the_defaults_hold() -> None:
    """A Master runs without a single setting; the defaults are those of the domain."""
    config = load(environment={})
    assert config.data_dir == Path("/var/lib/tenantry-master")
    assert config.dsn == "sqlite:////var/lib/tenantry-master/master.db"
    assert (config.api_listen, config.link_listen) == ("0.0.0.0:7443", "0.0.0.0:7444")
    assert Thresholds(config.stale_after, config.lost_after) == Thresholds()
    assert config.key_lifetime == DEFAULT_KEY_LIFETIME_MS
    assert config.credits == 8
    assert config.monitoring_listen is None
    assert set(config.retention) == set(StreamName)
    assert set(config.retention.values()) == {None}
    assert config.public_hosts[-1] == "localhost"
    assert config.origins == {}


def test_a_later_source_wins(folder: Path) -> None:
    """File < environment < flags, and each value remembers where it came from."""
    path = write(folder, 'stale_after = "9s"\nlost_after = "18s"\ncredits = 4\n[compaction]\nage = "1h"\n')
    environment = {"TENANTRY_MASTER_LOST_AFTER": "19s", "TENANTRY_MASTER_CREDITS": "5", "PATH": "/bin"}
    config = load({"data_dir": str(folder), "credits": "6"}, environment=environment)
    assert (config.stale_after, config.lost_after, config.credits) == (9_000, 19_000, 6)
    assert config.compaction == Compaction(age=3_600_000)
    assert config.origins["stale_after"] == str(path)
    assert config.origins["lost_after"] == "TENANTRY_MASTER_LOST_AFTER in the environment"
    assert config.origins["credits"] == "the command line"


def test_the_file_is_found_by_flag_environment_and_data_folder(folder: Path, tmp_path: Path) -> None:
    """--config, then TENANTRY_MASTER_CONFIG, then config.toml in the data folder; a named file must be there."""
    write(folder, "credits = 2")
    named, other = tmp_path / "a.toml", tmp_path / "b.toml"
    named.write_text("credits = 3")
    other.write_text("credits = 4")
    environment = {"TENANTRY_MASTER_CONFIG": str(other)}
    assert load({"data_dir": str(folder)}, environment={}).credits == 2
    assert load({}, environment={"TENANTRY_MASTER_DATA_DIR": str(folder)}).credits == 2
    assert load({"data_dir": str(folder)}, environment=environment).credits == 4
    assert load({"data_dir": str(folder)}, file=named, environment=environment).credits == 3
    assert problems({}, file=tmp_path / "none.toml") == [
        f"the configuration file does not exist (from {tmp_path / 'none.toml'})"
    ]


def test_paths_in_a_file_are_relative_to_it(folder: Path, tmp_path: Path) -> None:
    """A folder can be moved with its file."""
    file = tmp_path / "master.toml"
    file.write_text('data_dir = "data"')
    assert load(file=file, environment={}).data_dir == folder


def test_every_problem_is_told_at_once_with_its_origin(folder: Path) -> None:
    """A person corrects all in one go; unknown keys come with the one that was probably meant."""
    path = write(folder, 'stale_afer = "1s"\nkey_lifetime = "2d"\n[retention]\nmetrics = "1d"\n')
    found = problems(
        {"data_dir": str(folder), "link_listen": "::1:7444"},
        {"TENANTRY_MASTER_API_LISTN": "x", "TENANTRY_MASTER_CREDITS": "many"},
    )
    assert found == [
        f"stale_afer is not a setting; did you mean stale_after? (from {path})",
        f"key_lifetime is 2d; expected a duration from 1m to 1d (from {path})",
        f"retention.metrics is not a setting; did you mean retention.metricsMaster? (from {path})",
        (
            "TENANTRY_MASTER_API_LISTN is not a setting; did you mean TENANTRY_MASTER_API_LISTEN? "
            "(from TENANTRY_MASTER_API_LISTN in the environment)"
        ),
        "credits is 'many'; expected a whole number from 1 to 64 (from TENANTRY_MASTER_CREDITS in the environment)",
        (
            "link_listen is '::1:7444': an IPv6 address needs brackets; expected ADDRESS:PORT, like 0.0.0.0:7443 or "
            "[::]:7443 (port 0 takes a free one) (from the command line)"
        ),
    ]


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("stale_after", 12, "is the number 12 without a unit"),
        ("stale_after", "12", "has no unit"),
        ("credits", 0, "is 0; expected a whole number from 1 to 64"),
        ("credits", True, "is 'True'"),
        ("reflection", "maybe", "expected true or false"),
        ("log_level", "loud", "one of debug, info, warning, error"),
        ("trust_domain", "Tenantry.Internal", "lower-case DNS labels"),
        ("public_hosts", "*.example.org", "holds '*.example.org'"),
        ("public_hosts", [], "is no list of names"),
        ("public_api_port", 65_536, "from 1 to 65535"),
        ("api_listen", "localhost", "it has no port"),
        ("api_listen", ":7443", "it names no address"),
        ("retention.alerts", "30m", 'expected "forever" or a duration from 1h'),
        ("compaction.size", "12 parsecs", "expected a size from 64KiB to 1024GiB"),
        ("dsn", "mysql://root:hunter2@db/x", "begins with 'mysql'"),
        ("dsn", "sqlite:///relative.db", "names no absolute path"),
        ("data_dir", "", "is ''; expected a path"),
        ("server_certificate_lifetime", "1s", "is 1s"),
    ],
)
def test_every_kind_of_value_is_checked(key: str, value: object, problem: str) -> None:
    """A wrong value is refused with what was expected, and never with a secret in it."""
    (found,) = problems({key: value})
    assert problem in found
    assert found.startswith(key)
    assert found.endswith("(from the command line)")
    assert "hunter2" not in found


def test_what_one_tenant_may_have_of_tunnels_fits_the_message_that_names_them() -> None:
    """The contract bounds the ids of `TunnelsHeld`, in both directions."""
    assert problems({"tunnels.per_tenant": "1001"})
    assert load({"tunnels.per_tenant": "1000"}, environment={}).tunnels.per_tenant <= MAX_TUNNELS_HELD


def test_values_that_contradict_each_other_are_refused() -> None:
    """Lost comes after stale, stale after a heartbeat, and no two listeners share a port."""
    assert "more than stale_after" in problems({"stale_after": "30s"})[0]
    assert "more than heartbeat_interval" in problems({"heartbeat_interval": "12s"})[0]
    assert "has the port of api_listen" in problems({"link_listen": "127.0.0.1:7443"})[0]
    assert load({"api_listen": "[::]:0", "link_listen": "[::]:0"}, environment={}).api_listen == "[::]:0"


def test_a_password_comes_from_a_private_file_and_is_never_shown(folder: Path, tmp_path: Path) -> None:
    """The DSN of dsn_file is used; neither repr nor the description show the password."""
    secret = tmp_path / "dsn"
    secret.write_text("postgresql://tenantry:hunter2@db/tenantry\n")
    secret.chmod(0o600)
    config = load({"data_dir": str(folder), "dsn_file": str(secret)}, environment={})
    assert config.dsn == "postgresql://tenantry:hunter2@db/tenantry"
    assert "hunter2" not in repr(config) + config.describe()
    assert f'dsn = "postgresql://tenantry:[redacted]@db/tenantry"  # {secret}' in config.describe()
    secret.chmod(0o644)
    assert "0644" in problems({"dsn_file": str(secret)})[0]
    assert "hunter2" not in problems({"dsn_file": str(secret)})[0]


def test_a_password_where_others_can_read_it_is_refused(folder: Path) -> None:
    """Neither in a file that others may read, nor on the command line."""
    dsn = "postgresql://tenantry:hunter2@db/tenantry"
    write(folder, f'dsn = "{dsn}"', 0o644)
    for found in (
        problems({"data_dir": str(folder)}),
        problems({"dsn": dsn}),
        problems({"dsn": "postgresql://h/d?password=hunter2"}),
    ):
        assert len(found) == 1
        assert "holds a password" in found[0]
        assert "hunter2" not in found[0]
    write(folder, f'dsn = "{dsn}"', 0o600)
    assert load({"data_dir": str(folder)}, environment={}).dsn == dsn


def test_of_dsn_and_dsn_file_the_later_source_wins(folder: Path, tmp_path: Path) -> None:
    """Both in one source is a contradiction; a flag replaces what the file says."""
    secret = tmp_path / "dsn"
    secret.write_text("postgresql://db/other")
    secret.chmod(0o600)
    write(folder, 'dsn = "postgresql://db/first"')
    assert load({"data_dir": str(folder), "dsn_file": str(secret)}, environment={}).dsn == "postgresql://db/other"
    write(folder, f'dsn_file = "{secret}"')
    config = load({"data_dir": str(folder), "dsn": "postgresql://db/third"}, environment={})
    assert (config.dsn, config.dsn_file) == ("postgresql://db/third", None)
    write(folder, f'dsn = "postgresql://db/first"\ndsn_file = "{secret}"')
    assert "is set as well as dsn_file" in problems({"data_dir": str(folder)})[0]


def test_what_is_described_can_be_read_again(folder: Path) -> None:
    """The description is TOML; as a file it gives the same configuration."""
    flags: dict[str, object] = {
        "data_dir": str(folder),
        "public_hosts": ["master.example.org", "192.0.2.7"],
        "retention.metricsMaster": "90d",
        "compaction.size": "128MiB",
        "monitoring_listen": "127.0.0.1:9464",
        "public_api_port": 443,
    }
    config = load(flags, environment={})
    path = write(folder, config.describe().replace(f'dsn = "{config.dsn}"', 'dsn = ""'))
    assert load(file=path, environment={}) == config
    assert config.retention[StreamName.METRICS_MASTER] == 90 * DAY
    chosen = write(folder, config.as_toml(set(flags) - {"data_dir"}))
    assert "credits" not in chosen.read_text()
    assert load({"data_dir": str(folder)}, environment={}) == config


@given(
    st.sampled_from(KEYS), st.one_of(st.text(max_size=20), st.integers(), st.booleans(), st.none(), st.lists(st.text()))
)
def test_no_value_makes_it_crash(key: str, value: object) -> None:
    """Whatever is set, the answer is a configuration or a typed refusal."""
    try:
        load({key: value}, environment={})
    except ConfigurationInvalid as refusal:
        found = refusal.problems
        assert found


def test_it_cannot_be_changed() -> None:
    """A configuration is a value."""
    config = MasterConfig()
    with pytest.raises(AttributeError):
        config.credits = 9  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.retention[StreamName.ALERTS] = 1  # type: ignore[index]


@pytest.mark.parametrize(
    ("address", "pair"),
    [("192.0.2.7:7443", ("192.0.2.7", 7443)), ("[::1]:0", ("::1", 0)), ("localhost:65535", ("localhost", 65535))],
)
def test_listen_addresses(address: str, pair: tuple[str, int]) -> None:
    """IPv4, IPv6 in brackets, names; port 0 stands for a free one."""
    assert split_listen(address) == pair


@pytest.mark.parametrize("address", ["", "7443", "host:", "host:65536", "[::1]", "[x]:1", "::1:1", "a b:1", "host:-1"])
def test_what_is_no_listen_address(address: str) -> None:
    """Everything else is refused."""
    with pytest.raises(ValueError, match=r"it|IPv6"):
        split_listen(address)

from pathlib import Path

import pytest

from tenantry.daemon.config import DEFAULT_DATA, ListenAddress, PolicyPlace, load_settings
from tenantry.daemon.domain.failures import SettingsInvalid


def test_defaults() -> None:
    """Without file, environment and flags everything has its default."""
    settings = load_settings({})
    assert (settings.data, settings.log_level, settings.spool.quota) == (DEFAULT_DATA, "info", 256 << 20)
    assert any(rule.name == "high-cpu" for rule in settings.rules)


def test_file_then_environment_then_flags(tmp_path: Path) -> None:
    """The later wins, key by key."""
    file = tmp_path / "daemon.toml"
    file.write_text(
        "data = '/from/file'\nlog_level = 'debug'\n[spool]\nquota = '8MiB'\ntail_age = '2h'\n"
        "[probes]\ndisabled = ['disk']\n[probes.intervals]\ncpu = '30s'\n"
        "[[rules]]\nname = 'high-cpu'\nenabled = false\n"
    )
    environment = {"TENANTRY_DAEMON_CONFIG": str(file), "TENANTRY_DAEMON_SPOOL_QUOTA": "16MiB"}
    settings = load_settings(environment, data=Path("/from/flag"))
    assert (settings.data, settings.log_level) == (Path("/from/flag"), "debug")
    assert (settings.spool.quota, settings.spool.tail_age_ms) == (16 << 20, 7_200_000)
    assert (settings.probes.intervals_s, settings.probes.disabled) == ({"cpu": 30.0}, ("disk",))
    assert [rule.enabled for rule in settings.rules if rule.name == "high-cpu"] == [False]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("colour = 'red'", "colour"),
        ("[spool]\nsize = '1GiB'", "spool.size"),
        ("[spool]\nquota = '1 MB'", "spool.quota"),
        ("[spool]\nquota = 4096", "spool.quota"),
        ("[spool]\ntail_age = 'soon'", "spool.tail_age"),
        ("spool = 3", "spool"),
        ("log_level = 'loud'", "log_level"),
        ("[probes.intervals]\ncpu = '10ms'", "cpu"),
        ("[probes]\ndisabled = 'disk'", "probes.disabled"),
        ("[[rules]]\nname = 'mine'", "rules[0].metric"),
        ("broken", "daemon.toml"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, named: str) -> None:
    """An unknown key or a value that cannot be is an error that names it and where it stands."""
    file = tmp_path / "daemon.toml"
    file.write_text(text)
    with pytest.raises(SettingsInvalid) as caught:
        load_settings({}, file=file)
    assert named in caught.value.describe()
    assert "daemon.toml" in caught.value.describe()


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0:7450",
        "192.0.2.1:7450",
        "[::]:7450",
        "[::ffff:127.0.0.1]:7450",
        "[::1%lo]:7450",
        "localhost:7450",
        "2130706433:7450",
        "127.1:7450",
        "127.0.0.1",
        "::1:7450",
        "[127.0.0.1]:7450",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        ":7450",
        "",
        "on",
    ],
)
def test_the_local_console_is_served_on_loopback_alone(text: str) -> None:
    """Whatever other machines could reach, or reads like it, is refused and named."""
    with pytest.raises(SettingsInvalid, match="console_listen") as caught:
        load_settings({"TENANTRY_DAEMON_CONSOLE_LISTEN": text})
    assert "127.0.0.1:7450" in caught.value.describe() or "loopback" in caught.value.describe()


def test_the_local_console_is_on_unless_it_is_turned_off() -> None:
    """By default on IPv4; on IPv6 when asked."""
    assert load_settings({}).console_listen == ListenAddress("127.0.0.1", 7450)
    assert load_settings({"TENANTRY_DAEMON_CONSOLE_LISTEN": "[::1]:80"}).console_listen == ListenAddress("::1", 80)
    assert load_settings({"TENANTRY_DAEMON_CONSOLE_LISTEN": "off"}).console_listen is None


def test_unknown_variables_and_missing_files_are_errors(tmp_path: Path) -> None:
    """A misspelt variable does not go unnoticed, nor a file that was named and is not there."""
    with pytest.raises(SettingsInvalid, match="TENANTRY_DAEMON_QUOTA"):
        load_settings({"TENANTRY_DAEMON_QUOTA": "1GiB"})
    with pytest.raises(SettingsInvalid, match="no such file"):
        load_settings({}, file=tmp_path / "absent.toml")


def test_the_policy_for_tunnels_is_beside_the_settings_unless_somebody_says_otherwise(tmp_path: Path) -> None:
    """A named one has to be there; ``off`` is no file."""
    file = tmp_path / "daemon.toml"
    file.write_text("")
    assert load_settings({}).tunnels_policy == PolicyPlace(Path("/etc/tenantry/tunnels.toml"), named=False)
    assert load_settings({}, file=file).tunnels_policy == PolicyPlace(tmp_path / "tunnels.toml", named=False)
    file.write_text('tunnels_policy = "/srv/policy.toml"')
    assert load_settings({}, file=file).tunnels_policy == PolicyPlace(Path("/srv/policy.toml"), named=True)
    environment = {"TENANTRY_DAEMON_CONFIG": str(file), "TENANTRY_DAEMON_TUNNELS_POLICY": "off"}
    assert load_settings(environment).tunnels_policy is None

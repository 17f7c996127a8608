"""A private OpenSSH server for tests and benchmarks: its own keys and configuration, on loopback, for the user who runs it."""

import getpass
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.servers import packages
from tests.servers.ports import steady_port

_START_S: Final = 20.0
_SEPARATED: Final = Path("/run/sshd")
_CONFIGURATION: Final = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile {folder}/sshd.pid
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
AllowTcpForwarding yes
MaxSessions 500
MaxStartups 500:1:500
Subsystem sftp internal-sftp
"""


@dataclass(frozen=True, slots=True)
class Sshd:
    """A running server, and how to reach it."""

    folder: Path
    port: int

    @property
    def user(self) -> str:
        """Who signs in."""
        return getpass.getuser()

    def options(self) -> list[str]:
        """What ssh, scp and rsync need to know: the key, whom to trust, and nothing of this user's own configuration."""
        settings = {
            "IdentityFile": self.folder / "user_key",
            "UserKnownHostsFile": self.folder / "known_hosts",
            "HostKeyAlias": "tests",
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "ExitOnForwardFailure": "yes",
            "LogLevel": "ERROR",
        }
        return ["-F", "none", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]


@contextmanager
def running_sshd(program: Path, folder: Path) -> Iterator[Sshd]:
    """Run one until the block ends."""
    folder.mkdir()
    for key in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    known = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"tests {known}")
    if os.geteuid() == 0:
        _SEPARATED.mkdir(mode=0o755, exist_ok=True)
    server = Sshd(folder, steady_port())
    configuration = folder / "sshd_config"
    configuration.write_text(_CONFIGURATION.format(port=server.port, folder=folder))
    with (folder / "log").open("wb") as log:
        command = [str(program), "-D", "-e", "-f", str(configuration)]
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            packages.wait_for_port(server.port, process, folder / "log", _START_S)
            yield server
        finally:
            process.terminate()
            process.wait(_START_S)

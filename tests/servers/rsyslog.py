"""A private rsyslog for tests: UDP, TCP and TLS on free ports, and what it understood of each message as a line of JSON.

It comes from the system; `make programs` installs it.
"""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.cli.certificates import make_identity
from tests.servers import packages
from tests.servers.deadlines import eventually
from tests.servers.ports import steady_port

PACKAGES: Final = ("rsyslog", "rsyslog-openssl")
_MODULES: Final = ("imudp", "imtcp", "mmpstrucdata", "lmnsd_ossl")
_FOLDERS: Final = (Path("/usr/lib"), Path("/usr/lib64"))
_PROBE: Final = "does it listen?"
_START_S: Final = 30.0
_STOP_S: Final = 30.0

# Each message twice: its parts as the parser of RFC 5424 found them, and its structured data taken apart by mmpstrucdata.
_CONFIGURATION: Final = """
global(workDirectory="{folder}" maxMessageSize="{most}")
module(load="imudp") module(load="imtcp") module(load="mmpstrucdata")
template(name="moment" type="list") {{ property(name="timereported" dateFormat="rfc3339") }}
template(name="line" type="list") {{ property(name="$!all-json") constant(value="\\n") }}
ruleset(name="keep" queue.type="Direct") {{
  action(type="mmpstrucdata" sd_name.lowercase="off")
  set $!priority = $pri;
  set $!moment = exec_template("moment");
  set $!host = $hostname;
  set $!program = $app-name;
  set $!process = $procid;
  set $!kind = $msgid;
  set $!data = $structured-data;
  set $!text = $msg;
  set $!way = $inputname;
  action(type="omfile" file="{folder}/got.jsonl" template="line")
}}
input(type="imudp" address="127.0.0.1" port="{udp}" ruleset="keep" name="udp" rcvbufSize="{buffer}")
input(type="imtcp" address="127.0.0.1" port="{tcp}" ruleset="keep" name="tcp")
"""
_TLS: Final = """
input(type="imtcp" address="127.0.0.1" port="{tls}" ruleset="keep" name="tls" streamDriver.name="ossl" streamDriver.mode="1"
  streamDriver.authMode="anon" streamDriver.CAFile="{folder}/ca.pem" streamDriver.certFile="{folder}/chain.pem"
  streamDriver.keyFile="{folder}/key.pem")
"""


@dataclass(frozen=True)
class Rsyslog:
    """A running one."""

    folder: Path
    udp: int
    tcp: int
    tls: int

    @property
    def ca(self) -> Path:
        """The authority that its TLS certificate is of."""
        return self.folder / "ca.pem"

    def address(self, way: str) -> str:
        """Where to send to by `udp`, `tcp` or `tls`."""
        return f"{way}://localhost:{getattr(self, way)}" if way == "tls" else f"{way}://127.0.0.1:{getattr(self, way)}"

    def got(self) -> list[dict[str, Any]]:
        """Everything that it has understood up to now, in the order in which it came."""
        file = self.folder / "got.jsonl"
        lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []
        messages = (json.loads(line) for line in lines if line.endswith(b"\n"))
        return [message for message in messages if message["text"] != _PROBE]

    async def received(self, count: int) -> list[dict[str, Any]]:
        """What it has understood once that is so many messages. Raises TooLate."""
        file = self.folder / "got.jsonl"
        await eventually(
            lambda: file.read_bytes().count(b"\n") >= count and len(self.got()) >= count, f"{count} messages in rsyslog"
        )
        return self.got()

    def listens(self) -> bool:
        """Whether its ports take connections, and a datagram has come through."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.sendto(f"<13>1 - - - - - - {_PROBE}".encode(), ("127.0.0.1", self.udp))
        for port in (self.tcp, self.tls):
            try:
                socket.create_connection(("127.0.0.1", port), _START_S).close()
            except OSError:
                return False
        return (self.folder / "got.jsonl").stat().st_size > 0


def find_program() -> Path | None:
    """rsyslogd with all modules that are needed, or None."""
    program = packages.find_program("rsyslogd")
    modules = {path.stem for folder in _FOLDERS for path in folder.glob("**/rsyslog/*.so")}
    return program if program is not None and modules.issuperset(_MODULES) else None


@contextmanager
def running_rsyslog(program: Path, folder: Path, *, most: str = "64k", buffer: str = "4m") -> Iterator[Rsyslog]:
    """Run one until the block ends. ``most``: the longest message that it takes; ``buffer``: for datagrams that wait."""
    folder.mkdir()
    identity = make_identity(("localhost",))
    (folder / "ca.pem").write_text(identity.root)
    (folder / "chain.pem").write_bytes(identity.chain)
    (folder / "key.pem").write_bytes(identity.key)
    udp, tcp, tls = (steady_port() for _ in range(3))  # rsyslog cannot say which it has chosen for datagrams
    (folder / "got.jsonl").touch()
    configuration = (_CONFIGURATION + _TLS).format(folder=folder, most=most, buffer=buffer, udp=udp, tcp=tcp, tls=tls)
    (folder / "rsyslog.conf").write_text(configuration)
    command = [str(program), "-n", "-f", str(folder / "rsyslog.conf"), "-i", str(folder / "pid")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            running = Rsyslog(folder, udp, tcp, tls)
            _wait_until_it_listens(running, process)
            yield running
        finally:
            process.terminate()
            process.wait(_STOP_S)


def _wait_until_it_listens(running: Rsyslog, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while not running.listens():
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"rsyslog does not listen:\n{(running.folder / 'log').read_text()}")
        time.sleep(0.05)  # there is no event to wait for: the file is the event
